//! How large a store is, and how far PostgreSQL's archive reaches.

use std::time::Duration;

use super::{Credentials, postgres, redis};
use crate::cluster::{ClusterError, Dialer, PodAddress};

/// A moment of a database, by its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Its clock, with microseconds and zone.
    pub time: String,
    pub bytes: u64,
    /// The segment of the log that is being written, named as its file.
    pub segment: String,
    /// The newest segment that the archive has.
    pub archived: Option<String>,
}

const MOMENT: &str = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
     pg_database_size(current_database()), pg_walfile_name(pg_current_wal_lsn()), \
     (select last_archived_wal from pg_stat_archiver)";

impl Moment {
    /// The archive holds everything that was written until `earlier`. Names of segments sort by timeline, then by place;
    /// what else is archived (a history, the label of a backup) says nothing.
    #[must_use]
    pub fn has_archived(&self, earlier: &Self) -> bool {
        let is_segment =
            |name: &&String| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.archived.as_ref().filter(is_segment).is_some_and(|archived| *archived >= earlier.segment)
    }
}

/// Asks the primary.
///
/// # Errors
/// When it cannot be asked, or is no primary.
pub async fn moment(
    dialer: &Dialer,
    primary: &PodAddress,
    credentials: &Credentials,
    deadline: Duration,
) -> Result<Moment, ClusterError> {
    let asking = async {
        let client = postgres::connect(dialer, primary, credentials, deadline).await?;
        client.query_one(MOMENT, &[]).await.map_err(|error| postgres::said(primary, &error))
    };
    let what = format!("ask {} what time it is", primary.name);
    let row = tokio::time::timeout(deadline, asking).await;
    let row = row.map_err(|_| ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) })??;
    let bytes: i64 = row.get(1);
    Ok(Moment {
        time: row.get(0),
        bytes: u64::try_from(bytes).unwrap_or(0),
        segment: row.get(2),
        archived: row.get(3),
    })
}

/// What the data of all primaries take in memory.
///
/// # Errors
/// When a shard has no primary, or one does not answer.
pub async fn redis_bytes(
    dialer: &Dialer,
    pods: &[PodAddress],
    deadline: Duration,
) -> Result<u64, ClusterError> {
    let what = "ask redis how large it is";
    let members = redis::members(dialer, pods, deadline).await;
    if !members.led {
        return Err(ClusterError::state(what, "some slots have no primary"));
    }
    let leading = |pod: &&PodAddress| {
        members.leaders.iter().any(|(_, leader)| leader.as_ref().is_some_and(|(name, _)| *name == pod.name))
    };
    let mut bytes = 0;
    for pod in pods.iter().filter(leading) {
        let asking = async {
            let mut connection = redis::connect(dialer, pod, deadline).await?;
            let asked = ::redis::cmd("INFO").arg("memory").query_async(&mut connection).await;
            asked.map_err(redis::said(what))
        };
        let info: String = tokio::time::timeout(deadline, asking).await.map_err(|_| {
            ClusterError::Deadline { what: what.to_owned(), seconds: deadline.as_secs().max(1) }
        })??;
        bytes += dataset(&info);
    }
    Ok(bytes)
}

fn dataset(info: &str) -> u64 {
    let line = info.lines().find_map(|line| line.trim_end().strip_prefix("used_memory_dataset:"));
    line.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(segment: &str, archived: Option<&str>) -> Moment {
        Moment {
            time: String::new(),
            bytes: 0,
            segment: segment.to_owned(),
            archived: archived.map(str::to_owned),
        }
    }

    #[test]
    fn the_archive_reaches_a_moment_only_with_its_segment() {
        let earlier = moment("000000020000000000000009", None);
        for (archived, reaches) in [
            (None, false),
            (Some("000000020000000000000008"), false),
            (Some("000000020000000000000009"), true),
            (Some("00000002000000000000000A"), true),
            (Some("0000000100000000000000FF"), false),
            (Some("00000003.history"), false),
            (Some("00000002000000000000000A.00000028.backup"), false),
        ] {
            assert_eq!(moment("x", archived).has_archived(&earlier), reaches, "{archived:?}");
        }
    }

    #[test]
    fn the_data_are_told_from_what_the_server_itself_takes() {
        assert_eq!(dataset("used_memory:900\r\nused_memory_dataset:42\r\n"), 42);
        assert_eq!(dataset(""), 0);
    }
}
