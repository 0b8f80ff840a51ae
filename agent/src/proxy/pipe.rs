//! One direction of a connection: bytes that wait until they are due. Time is given, never read here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    arrived: Instant,
    due: Instant,
}

#[derive(Default)]
pub struct Pipe {
    chunks: VecDeque<Chunk>,
    queued: usize,
    /// When the end that the source sent may be passed on.
    end: Option<Instant>,
    closed: bool,
    last_due: Option<Instant>,
}

impl Pipe {
    /// Never before what came earlier: jitter does not reorder a stream.
    fn due_at(&mut self, now: Instant, delay: Duration) -> Instant {
        let due = self.last_due.map_or(now + delay, |last| last.max(now + delay));
        self.last_due = Some(due);
        due
    }

    pub fn push(&mut self, now: Instant, bytes: &[u8], delay: Duration) {
        let due = self.due_at(now, delay);
        self.queued += bytes.len();
        self.chunks.push_back(Chunk { bytes: bytes.to_vec(), sent: 0, arrived: now, due });
    }

    /// The source will send nothing more.
    pub fn end(&mut self, now: Instant, delay: Duration) {
        self.end = Some(self.due_at(now, delay));
    }

    pub fn ended(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes that wait.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// What may be passed on now.
    pub fn due(&self, now: Instant) -> Option<&[u8]> {
        let chunk = self.chunks.front().filter(|chunk| chunk.due <= now)?;
        Some(&chunk.bytes[chunk.sent..])
    }

    /// `count` bytes of the due ones were passed on. How long they had waited, when it was the first of a chunk.
    pub fn sent(&mut self, now: Instant, count: usize) -> Option<Duration> {
        let chunk = self.chunks.front_mut()?;
        let waited = (chunk.sent == 0 && count > 0).then(|| now.saturating_duration_since(chunk.arrived));
        chunk.sent += count;
        self.queued = self.queued.saturating_sub(count);
        if chunk.sent >= chunk.bytes.len() {
            self.chunks.pop_front();
        }
        waited
    }

    /// True once: everything was passed on and the end is due.
    pub fn close(&mut self, now: Instant) -> bool {
        let close = !self.closed && self.chunks.is_empty() && self.end.is_some_and(|due| due <= now);
        self.closed |= close;
        close
    }

    pub fn closed(&self) -> bool {
        self.closed
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<Instant> {
        if self.closed { None } else { self.chunks.front().map(|chunk| chunk.due).or(self.end) }
    }
}

/// A rate in bytes a second; a twentieth of a second may be saved up.
pub struct Bucket {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub fn new(kib_per_second: u32, now: Instant) -> Self {
        Self { rate: f64::from(kib_per_second) * 1024.0, tokens: 0.0, at: now }
    }

    /// Bytes that may go now.
    pub fn available(&mut self, now: Instant) -> usize {
        let most = (self.rate / 20.0).max(1460.0);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(most);
        self.at = now;
        // Between 0 and a twentieth of 4 TiB.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
        let whole = self.tokens.max(0.0) as usize;
        whole
    }

    pub fn take(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes at most")]
        let bytes = bytes as f64;
        self.tokens -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Bucket, Pipe};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn bytes_wait_for_their_time_and_throughput_is_not_limited() {
        let (mut pipe, start) = (Pipe::default(), Instant::now());
        // Ten chunks in 10 ms: all of them are through 200 ms later, not after ten delays.
        for number in 0..10u8 {
            pipe.push(start + MS(u64::from(number)), &[number], MS(200));
        }
        assert_eq!(pipe.due(start + MS(199)), None);
        let now = start + MS(209);
        for number in 0..10u8 {
            assert_eq!(pipe.due(now), Some([number].as_slice()));
            assert_eq!(pipe.sent(now, 1), Some(MS(209 - u64::from(number))));
        }
        assert_eq!((pipe.due(now), pipe.queued()), (None, 0));
    }

    #[test]
    fn jitter_does_not_reorder_and_the_end_comes_last() {
        let (mut pipe, start) = (Pipe::default(), Instant::now());
        pipe.push(start, b"late", MS(100));
        pipe.push(start, b"early", MS(10));
        pipe.end(start, MS(0));
        assert_eq!(pipe.due(start + MS(50)), None);
        assert!(!pipe.close(start + MS(50)));
        let now = start + MS(100);
        assert_eq!(pipe.due(now), Some(b"late".as_slice()));
        pipe.sent(now, 4);
        assert_eq!(pipe.due(now), Some(b"early".as_slice()));
        pipe.sent(now, 5);
        assert!(pipe.close(now) && !pipe.close(now));
    }

    #[test]
    fn a_part_that_was_sent_is_not_sent_again() {
        let (mut pipe, now) = (Pipe::default(), Instant::now());
        pipe.push(now, b"abc", MS(0));
        assert_eq!(pipe.sent(now, 2), Some(MS(0)));
        assert_eq!(pipe.due(now), Some(b"c".as_slice()));
        assert_eq!(pipe.sent(now, 1), None, "only the first byte of a chunk is measured");
    }

    #[test]
    fn a_rate_is_kept_over_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start);
        let mut through = 0;
        for ms in 1..=1000 {
            let may = bucket.available(start + MS(ms));
            bucket.take(may);
            through += may;
        }
        assert!((100_000..=103_000).contains(&through), "{through}");
        assert!(bucket.available(start + MS(60_000)) <= 102_400 / 20, "an idle minute is not saved up");
    }
}
