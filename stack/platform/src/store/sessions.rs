//! What lives in Redis: sessions (lists that only grow) and copies of models.

use serde::Serialize;

use super::kv::Kv;
use super::kv_fault::KvFault;
use super::models::Model;

/// Events in one answer.
pub const EVENTS_PAGE_MAX: usize = 10_000;
/// A copy of a model lives so long: it bounds the memory, not the staleness, since models do not change.
const MODEL_TTL_S: u64 = 60;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    pub events: Vec<String>,
    /// Where the next page starts; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<usize>,
}

impl Kv {
    /// Appends the operation to the user's session; returns the list's length. Not idempotent: an operation
    /// that is sent twice is there twice.
    ///
    /// # Errors
    /// Only [`KvFault::Unknown`] leaves it open whether the event was appended.
    pub async fn append_event(&self, user: &str, op_id: &str) -> Result<u64, KvFault> {
        let key = session_key(user);
        self.run(&key, redis::cmd("RPUSH").arg(&key).arg(op_id)).await
    }

    /// # Errors
    /// When Redis did not answer.
    pub async fn events(&self, user: &str, offset: usize) -> Result<Page, KvFault> {
        let key = session_key(user);
        // One more than a page, to know whether there is another; the end is inclusive.
        let last = offset.saturating_add(EVENTS_PAGE_MAX);
        let events = self.run(&key, redis::cmd("LRANGE").arg(&key).arg(offset).arg(last)).await?;
        Ok(page(events, offset))
    }

    /// # Errors
    /// When Redis did not answer.
    pub async fn cached_model(&self, id: i64) -> Result<Option<Model>, KvFault> {
        let key = model_key(id);
        let text: Option<String> = self.run(&key, redis::cmd("GET").arg(&key)).await?;
        // A copy that cannot be read (written by another version) is a miss.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// # Errors
    /// When Redis did not answer: the copy is then missing, nothing more.
    pub async fn cache_model(&self, model: &Model) -> Result<(), KvFault> {
        let key = model_key(model.id);
        let text = serde_json::to_string(model).map_err(|error| KvFault::NotSent(error.to_string()))?;
        self.run(&key, redis::cmd("SET").arg(&key).arg(text).arg("EX").arg(MODEL_TTL_S)).await
    }
}

fn session_key(user: &str) -> String {
    format!("session:{user}")
}

fn model_key(id: i64) -> String {
    format!("model:{id}")
}

fn page(mut events: Vec<String>, offset: usize) -> Page {
    let next_offset = (events.len() > EVENTS_PAGE_MAX).then(|| offset + EVENTS_PAGE_MAX);
    events.truncate(EVENTS_PAGE_MAX);
    Page { events, next_offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_next_only_when_there_is_one() {
        let events = |n: usize| vec![String::from("e"); n];
        assert_eq!(page(events(EVENTS_PAGE_MAX), 0).next_offset, None);
        let full = page(events(EVENTS_PAGE_MAX + 1), 20_000);
        assert_eq!((full.events.len(), full.next_offset), (EVENTS_PAGE_MAX, Some(30_000)));
    }
}
