//! What happens to a simulated account between two polls, and what its API then tells.

use std::collections::BTreeMap;

use container_registry_exporter::inventory::{self, Center, SharedRepository, TagInfo, Timestamp};
use container_registry_exporter::simulator::{Repository, Swr, Tag};
use jiff::Timestamp as Time;

use super::random::Random;
use super::rules::{Key, List};

/// Polls from the account's largest size to its next.
pub const SEASON: u32 = 100;
/// About so many repositories; between half and one and a half times as many.
const SIZE: f64 = 40.0;
/// More would not fit a page of ten.
const MOST_TAGS: usize = 9;

/// The account's memory of names and times given out.
#[derive(Default)]
pub struct Life {
    names: u64,
    seconds: i64,
    polls: u32,
}

impl Life {
    /// Lets a few things happen.
    pub fn pass(&mut self, swr: &mut Swr, random: &mut Random) {
        let season = (f64::from(self.polls) / f64::from(SEASON) * std::f64::consts::TAU).cos();
        self.polls += 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let size = (SIZE * (1.0 + 0.5 * season)) as usize;
        while swr.repositories.len() < size {
            let name = format!("{}{}", random.of(&["app-", "nested/app-", "a/b/c-"]), self.next_name());
            let mut repository = Repository::new(random.of(&["base", "platform", "team"]), &name);
            repository.shared_by_me = random.percent(10);
            repository.updated = self.now();
            repository.tags = (0..random.below(5)).map(|_| self.tag(random)).collect();
            swr.add(repository);
        }
        while swr.repositories.len() > size {
            let gone = any(&swr.repositories, random);
            swr.repositories.remove(&gone);
        }
        for _ in 0..random.below(4) {
            let any = any(&swr.repositories, random);
            let mut repository = swr.repositories.remove(&any).expect("it was just found");
            match random.below(7) {
                0..=2 if repository.tags.len() < MOST_TAGS => {
                    repository.tags.push(self.tag(random));
                    repository.updated = self.now();
                }
                3 if !repository.tags.is_empty() => {
                    repository.tags.remove(random.index(repository.tags.len()));
                    repository.updated = self.now();
                }
                // Only a full sweep finds it.
                4 if !repository.tags.is_empty() => repository.tags[0].digest = self.now(),
                5 => repository.name = format!("renamed-{}", self.next_name()),
                _ => repository.downloads += 1,
            }
            repository.public = random.percent(50);
            swr.add(repository);
        }
        if random.percent(20) {
            let key = format!("others/shared-{}", random.below(8));
            if swr.shared_with_me.remove(&key).is_none() {
                let mut shared = Repository::new("others", &key["others/".len()..]);
                shared.share_is_valid = random.percent(70);
                swr.add_shared_with_me(shared);
            }
        }
        swr.not_found_is_400 = random.percent(50);
    }

    fn tag(&mut self, random: &mut Random) -> Tag {
        let name = format!("{}{}", random.of(&["v", "release-", "tmp-"]), self.next_name());
        let mut tag = Tag::new(&name, random.below(1 << 40).cast_signed());
        tag.updated = self.now();
        tag.tag_type = random.below(2).cast_signed();
        tag
    }

    fn next_name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn now(&mut self) -> String {
        self.seconds += 1;
        Time::from_second(1_700_000_000 + self.seconds).expect("a second of this century").to_string()
    }
}

fn any(repositories: &BTreeMap<String, Repository>, random: &mut Random) -> String {
    repositories.keys().nth(random.index(repositories.len())).expect("below the length").clone()
}

/// The list of repositories.
pub fn list(swr: &Swr) -> List {
    let rows: Vec<_> = swr.repositories.values().map(row).collect();
    List { listed: rows.len() as u64, rows, organizations: Vec::new() }
}

fn row(of: &Repository) -> inventory::Repository {
    let mut names: Vec<&str> = of.tags.iter().map(|tag| tag.name.as_str()).collect();
    names.sort_unstable();
    inventory::Repository {
        organization: of.organization.as_str().into(),
        name: of.name.as_str().into(),
        size_bytes: Some(of.size_bytes().unsigned_abs()),
        images: Some(of.tags.len() as u64),
        downloads: Some(of.downloads.unsigned_abs()),
        created: time(&of.created),
        updated: time(&of.updated),
        public: Some(of.public),
        category: Some(of.category.as_str().into()),
        image: Some(format!("swr.cn-north-4.myhuaweicloud.com/{}/{}", of.organization, of.name).into()),
        tag_names_hash: Some(crc32fast::hash(names.join("/").as_bytes()).into()),
    }
}

/// A list of shared repositories, in order.
pub fn shared(swr: &Swr, center: Center) -> Vec<SharedRepository> {
    let of = if center == Center::Own { &swr.repositories } else { &swr.shared_with_me };
    let listed = of.values().filter(|of| center == Center::ThirdParty || of.shared_by_me);
    let row = |of: &Repository| SharedRepository {
        center,
        organization: of.organization.as_str().into(),
        name: of.name.as_str().into(),
        size_bytes: Some(of.size_bytes().unsigned_abs()),
        images: Some(of.tags.len() as u64),
        downloads: Some(of.downloads.unsigned_abs()),
        updated: time(&of.updated),
        valid: (center == Center::ThirdParty).then_some(of.share_is_valid),
        owner_account: Some(of.account.as_str().into()),
        category: Some(of.category.as_str().into()),
    };
    listed.map(row).collect()
}

/// A repository's tags; `None` if it is not there.
pub fn tags(swr: &Swr, (organization, name): &Key) -> Option<Vec<inventory::Tag>> {
    let repository = swr.repositories.get(&format!("{organization}/{name}"))?;
    let tag = |of: &Tag| inventory::Tag {
        name: of.name.as_str().into(),
        size_bytes: Some(of.size_bytes.unsigned_abs()),
        created: time(&of.created),
        updated: time(&of.updated),
        last_pulled: None,
        info: Some(Box::new(TagInfo {
            digest: Some(of.digest.as_str().into()),
            kind: Some(if of.tag_type == 0 { "manifest" } else { "index" }),
        })),
    };
    Some(repository.tags.iter().map(tag).collect())
}

fn time(text: &str) -> Option<Timestamp> {
    let time: Time = text.parse().expect("the simulator's times are times");
    Timestamp::from_nanoseconds(time.as_nanosecond())
}
