//! How one agent comes by one piece: from whom to take it, how long to wait for others, when to fetch it from afar. Pure.
//!
//! The neighbours and this agent stand in the order of [`super::rank`]. Whoever stands first fetches from afar; the others ask,
//! wait as long as somebody before them gets on, and take it from whoever has it. Nobody is believed for long: one that is
//! silent, stalls or has no wish for the piece stops being waited for, and after [`limit`] this agent fetches what is missing
//! itself. So whatever the neighbours do, the piece comes; what their lies can cost is time, within that limit.

use super::rank::weight;
use aidos_protocol::DeviceId;
use aidos_protocol::artifact::Digest;
use std::time::Duration;

/// How long one that neither has the piece nor wants it is waited for: agents of a site learn of a deployment within seconds.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long one that wants or fetches the piece may get no further: longer than a modem's pause.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// Between two questions to one that fetches: one more request a second and agent for the one that does the work.
const POLL: Duration = Duration::from_secs(1);
/// Between two questions to one that has the piece and no seat, at least; up to twice as long.
const BUSY: Duration = Duration::from_millis(400);
/// Between two questions to one that has nothing.
const SELDOM: Duration = Duration::from_secs(5);

/// How long a piece of `size` bytes is hunted: a minute, and the time that it takes over 256 KiB/s, but never more than an hour,
/// which is what neighbours that only pretend, or give drop by drop, can cost.
pub(super) fn limit(size: u64) -> Duration {
    Duration::from_secs((60 + size / (256 << 10)).min(3_600))
}

/// What a neighbour said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Bytes of the piece.
    Bytes,
    /// It has the piece and no seat at present.
    Busy,
    /// It fetches the piece from afar and has so many bytes.
    Coming(u64),
    /// It wants the piece, too, and waits.
    Wanted,
    /// It has no part in it.
    Absent,
    /// It could not be reached, broke off, or answered nonsense.
    Failed,
    /// What it sent was not the piece.
    Wrong,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask this neighbour for the next bytes.
    Ask(DeviceId),
    /// Do nothing before this time.
    Wait(Duration),
    /// Fetch from afar.
    Afar,
}

/// One neighbour, as far as this piece is concerned.
#[derive(Debug, Clone)]
struct Candidate {
    device: DeviceId,
    /// Stands before this agent.
    before: bool,
    /// It failed or lied: not asked again.
    out: bool,
    last: Option<Answer>,
    /// When it may be asked again.
    due: Duration,
    /// Until when it is waited for, if it is one to wait for.
    patience: Duration,
    /// When it was first asked.
    first: Option<Duration>,
    /// The most bytes that it claimed to have.
    most: u64,
    /// How often it was asked; only to spread the next question.
    asked: u32,
}

/// The hunt.
#[derive(Debug, Clone)]
pub(super) struct Hunt {
    size: u64,
    candidates: Vec<Candidate>,
    /// When it began, or began anew because what came was wrong.
    began: Duration,
    salt: u64,
}

impl Hunt {
    /// Begins to hunt `piece` among `neighbours`, who do not hold `me`.
    pub(super) fn new(
        piece: &Digest,
        size: u64,
        me: DeviceId,
        neighbours: impl IntoIterator<Item = DeviceId>,
        now: Duration,
    ) -> Self {
        let mine = weight(piece, me);
        let mut all: Vec<_> = neighbours.into_iter().map(|device| (weight(piece, device), device)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let candidate = |(weight, device): ([u8; 32], DeviceId)| Candidate {
            device,
            before: weight > mine,
            out: false,
            last: None,
            due: now,
            patience: now + GRACE,
            first: None,
            most: 0,
            asked: 0,
        };
        let salt = u64::from_le_bytes(mine[..8].try_into().expect("a weight has 32 bytes"));
        Self { size, candidates: all.into_iter().map(candidate).collect(), began: now, salt }
    }

    /// Takes note of what `device` said.
    pub(super) fn heard(&mut self, device: DeviceId, answer: Answer, now: Duration) {
        let Some(position) = self.candidates.iter().position(|candidate| candidate.device == device) else { return };
        let spread = self.spread(position);
        let candidate = &mut self.candidates[position];
        let first = *candidate.first.get_or_insert(now);
        candidate.last = Some(answer);
        candidate.asked += 1;
        match answer {
            Answer::Bytes => (candidate.due, candidate.patience) = (now, now + STALL),
            Answer::Busy => (candidate.due, candidate.patience) = (now + BUSY + BUSY.mul_f64(spread), now + STALL),
            Answer::Coming(bytes) => {
                candidate.due = now + POLL;
                // Standing still, going back or claiming more than there is earns no patience.
                if bytes > candidate.most && bytes <= self.size {
                    candidate.most = bytes;
                    candidate.patience = now + STALL;
                } else {
                    candidate.patience = candidate.patience.max(first + STALL);
                }
            }
            Answer::Wanted => (candidate.due, candidate.patience) = (now + POLL, first + STALL),
            Answer::Absent => candidate.due = now + if candidate.before { POLL } else { SELDOM.mul_f64(1.0 + spread) },
            Answer::Failed => candidate.out = true,
            // The piece begins anew, and so does its time; each neighbour can cause that once.
            Answer::Wrong => (candidate.out, self.began) = (true, now),
        }
    }

    /// What to do now. One question at a time: call [`Hunt::heard`] with its answer before the next call.
    pub(super) fn next(&self, now: Duration) -> Act {
        let end = self.began + limit(self.size);
        if now >= end {
            return Act::Afar;
        }
        let asked = |candidate: &&Candidate| !candidate.out;
        // From whom the last bytes came, the next ones come: one file from one neighbour can be judged as a whole.
        if let Some(giver) = self.candidates.iter().filter(asked).find(|candidate| candidate.last == Some(Answer::Bytes)) {
            return Act::Ask(giver.device);
        }
        // Everybody is asked once before anything is fetched: a late joiner may stand first, and all others have the piece.
        if let Some(new) = self.candidates.iter().filter(asked).find(|candidate| candidate.last.is_none()) {
            return Act::Ask(new.device);
        }
        let until = self.candidates.iter().filter(asked).filter(|candidate| candidate.is_waited_for()).map(|c| c.patience).max();
        let until = until.unwrap_or_default().min(end);
        if now >= until {
            return Act::Afar;
        }
        let next = self.candidates.iter().filter(asked).min_by_key(|candidate| (candidate.due, candidate.asked));
        match next {
            Some(candidate) if candidate.due <= now => Act::Ask(candidate.device),
            Some(candidate) => Act::Wait(candidate.due.min(until)),
            None => Act::Afar,
        }
    }

    /// 0 to 1: by agent, neighbour and number of the question, so that a site's agents do not ask in step.
    fn spread(&self, position: usize) -> f64 {
        let asked = u64::from(self.candidates[position].asked);
        let mixed = (self.salt ^ (position as u64) << 32 ^ asked).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as f64 / f64::from(u32::MAX)
    }
}

impl Candidate {
    /// One that stands before this agent may come to fetch the piece; one that has it or fetches it is waited for wherever it
    /// stands. For how long is another question.
    fn is_waited_for(&self) -> bool {
        self.before || matches!(self.last, Some(Answer::Busy | Answer::Coming(_) | Answer::Bytes))
    }
}

#[cfg(test)]
mod tests;
