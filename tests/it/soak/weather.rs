//! How the API fares: clear for a while, then one trouble or another, some of them longer than anything may last.

use std::time::Duration;

use container_registry_exporter::telemetry::Reason;

use super::random::Random;

/// How the API answers during one poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub list: Answers,
    pub shared: Answers,
    pub tags: Answers,
}

/// How one kind of call is answered.
#[derive(Clone, Copy, Debug, Default)]
pub enum Answers {
    #[default]
    Well,
    /// Each answer takes tens of seconds.
    Slowly,
    /// So many of a hundred calls fail.
    Failing(Reason, u64),
    /// So many of a hundred calls are never answered.
    Hanging(u64),
}

impl Answers {
    /// How long the next answer takes, `None` = for ever, and what becomes of it.
    pub fn next(self, random: &mut Random) -> (Option<Duration>, Result<(), Reason>) {
        let quick = Some(Duration::from_millis(random.between(20, 800)));
        match self {
            Self::Slowly => (Some(Duration::from_millis(random.between(20_000, 100_000))), Ok(())),
            Self::Failing(reason, percent) if random.percent(percent) => (quick, Err(reason)),
            Self::Hanging(percent) if random.percent(percent) => (None, Ok(())),
            Self::Well | Self::Failing(..) | Self::Hanging(_) => (quick, Ok(())),
        }
    }
}

/// The weather from poll to poll.
pub struct Season {
    now: Weather,
    left: u64,
    polls: u64,
    /// Two troubles that must come once: when, how long, what.
    certain: [(u64, u64, Weather); 2],
}

impl Season {
    /// Weather for so many `polls`, in which the list fails once for more polls than a `sweep` has, and tags once for
    /// as many as `tags_end` more.
    pub fn new(polls: u64, sweep: u64, tags_end: u64) -> Self {
        let outage = Answers::Failing(Reason::Connect, 100);
        let all = Weather { list: outage, shared: outage, tags: outage };
        let of_tags = Weather { tags: Answers::Failing(Reason::Server, 100), ..Weather::default() };
        let certain = [(polls * 2 / 10, sweep + 3, all), (polls * 6 / 10, sweep + tags_end + 3, of_tags)];
        Self { now: Weather::default(), left: 3, polls: 0, certain }
    }

    /// The weather of the next poll.
    pub fn next(&mut self, random: &mut Random) -> Weather {
        self.polls += 1;
        if let Some((_, length, weather)) = self.certain.iter().find(|(at, ..)| *at == self.polls) {
            (self.now, self.left) = (*weather, *length);
        } else if self.left == 0 {
            (self.now, self.left) = Self::trouble(random);
        }
        self.left -= 1;
        self.now
    }

    fn trouble(random: &mut Random) -> (Weather, u64) {
        let reason = random.of(&Reason::ALL);
        let clear = Weather::default();
        if random.percent(50) {
            return (clear, random.between(1, 20));
        }
        let failing = |percent| Answers::Failing(reason, percent);
        match random.below(10) {
            0 => (Weather { list: failing(100), ..clear }, random.between(1, 4)),
            // Longer than data may be shown.
            1 => (Weather { list: failing(100), ..clear }, random.between(6, 12)),
            2 => (Weather { shared: failing(50), ..clear }, random.between(1, 12)),
            3 => (Weather { tags: failing(30), ..clear }, random.between(1, 6)),
            4 => (Weather { tags: failing(100), ..clear }, random.between(1, 4)),
            5 => (Weather { tags: Answers::Slowly, ..clear }, random.between(1, 8)),
            6 => (Weather { tags: Answers::Hanging(20), ..clear }, random.between(1, 4)),
            7 => (Weather { list: Answers::Hanging(100), ..clear }, random.between(1, 8)),
            8 => {
                let shared = Answers::Hanging(100);
                (Weather { list: Answers::Slowly, shared, tags: clear.tags }, random.between(1, 9))
            }
            _ => {
                let (list, tags) = (Answers::Slowly, Answers::Failing(Reason::Throttled, 60));
                (Weather { list, tags, ..clear }, random.between(1, 5))
            }
        }
    }
}
