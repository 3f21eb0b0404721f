//! An account that lives: it grows and shrinks, is pushed to and pulled from, renames and shares.

use std::collections::BTreeMap;

use container_registry_exporter::inventory::{Center, Repository, SharedRepository, Tag, TagInfo, Timestamp};

use super::random::Random;
use super::rules::{Key, List, key};

/// Polls from the account's largest size to its next.
const SEASON: f64 = 150.0;
const ORGANIZATIONS: [&str; 4] = ["base", "platform", "team \"a\\b\"", "zwölf"];

/// What is in the registry at this moment.
pub struct Account {
    ncr: bool,
    size: u32,
    repositories: BTreeMap<Key, (Repository, Vec<Tag>)>,
    shared: BTreeMap<Key, SharedRepository>,
    /// Names given so far, and milliseconds since the beginning.
    names: u64,
    clock: i64,
    seasons: u32,
}

impl Account {
    /// An account of about `size` repositories.
    pub fn new(ncr: bool, size: u32, random: &mut Random) -> Self {
        let (repositories, shared) = (BTreeMap::new(), BTreeMap::new());
        let mut account = Self { ncr, size, repositories, shared, names: 0, clock: 0, seasons: 0 };
        for _ in 0..size {
            account.create(random);
        }
        account
    }

    /// What happens between two polls.
    pub fn live(&mut self, random: &mut Random) {
        self.seasons += 1;
        let season = (f64::from(self.seasons) / SEASON * std::f64::consts::TAU).cos();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most twice the size")]
        let size = (f64::from(self.size) * (1.0 + 0.6 * season)) as usize;
        if self.repositories.len() < size && random.percent(70) {
            self.create(random);
        }
        if self.repositories.len() > size && random.percent(70) {
            let gone = self.any(random);
            self.repositories.remove(&gone);
        }
        self.happen(random);
        if random.percent(20) {
            self.share(random);
        }
    }

    /// A few events to the repositories that there are.
    pub fn happen(&mut self, random: &mut Random) {
        for _ in 0..random.below(4) {
            let any = self.any(random);
            let (mut row, mut tags) = self.repositories.remove(&any).expect("it was just found");
            self.clock += 1;
            match random.below(10) {
                0..=2 => {
                    tags.push(self.tag(random));
                    self.changed(&mut row, &tags, random);
                }
                3 if !tags.is_empty() => {
                    tags.remove(random.index(tags.len()));
                    self.changed(&mut row, &tags, random);
                }
                // The list does not show it.
                4 if !tags.is_empty() => {
                    let index = random.index(tags.len());
                    tags[index] = Tag { name: tags[index].name.clone(), ..self.tag(random) };
                }
                5 => row.name = self.name(random).into(),
                6 => row.public = row.public.map(|public| !public),
                7 => row.category = Some(random.of(&["linux", "database", "a\nb"]).into()),
                8 if !self.ncr => row.size_bytes = if row.size_bytes.is_some() { None } else { Some(0) },
                _ => row.downloads = Some(row.downloads.unwrap_or_default() + random.below(3)),
            }
            self.repositories.insert(key(&row), (row, tags));
        }
    }

    /// The list of repositories.
    pub fn list(&self) -> List {
        let rows: Vec<_> = self.repositories.values().map(|(row, _)| row.clone()).collect();
        List { listed: rows.len() as u64, rows, organizations: Vec::new() }
    }

    /// A list of shared repositories, in order.
    pub fn shared(&self, center: Center) -> Vec<SharedRepository> {
        self.shared.values().filter(|row| row.center == center).cloned().collect()
    }

    /// A repository's tags; `None` if it is not there.
    pub fn tags(&self, key: &Key) -> Option<&Vec<Tag>> {
        self.repositories.get(key).map(|(_, tags)| tags)
    }

    fn any(&self, random: &mut Random) -> Key {
        self.repositories.keys().nth(random.index(self.repositories.len())).expect("below the length").clone()
    }

    fn create(&mut self, random: &mut Random) {
        let mut row = Repository {
            organization: random.of(&ORGANIZATIONS).into(),
            name: self.name(random).into(),
            downloads: Some(random.below(1000)).filter(|n| *n > 10),
            created: self.now(),
            public: (!self.ncr).then(|| random.percent(30)),
            category: (!self.ncr).then(|| "other".into()),
            image: Some(format!("registry.example/{}", self.names).into()),
            ..Repository::default()
        };
        let tags: Vec<Tag> = (0..random.below(6)).map(|_| self.tag(random)).collect();
        self.changed(&mut row, &tags, random);
        // Some rows never tell when they changed, which the list must make up for.
        if random.percent(5) {
            (row.updated, row.tag_names_hash) = (None, None);
        }
        self.repositories.insert(key(&row), (row, tags));
    }

    /// Brings a row in line with its tags.
    fn changed(&mut self, row: &mut Repository, tags: &[Tag], random: &mut Random) {
        self.clock += 1;
        if row.updated.is_some() || row.images.is_none() {
            row.updated = self.now();
        }
        if !self.ncr {
            row.images = Some(tags.len() as u64);
            row.size_bytes = Some(tags.iter().filter_map(|tag| tag.size_bytes).sum());
            row.tag_names_hash = random.percent(50).then(|| {
                let names: String = tags.iter().map(|tag| &*tag.name).collect();
                u64::from(crc32fast::hash(names.as_bytes()))
            });
        }
    }

    fn tag(&mut self, random: &mut Random) -> Tag {
        self.clock += 1;
        self.names += 1;
        let name = format!("{}{}", random.of(&["v", "release-", "tmp-"]), self.names);
        let digest = Some(format!("sha256:{:08x}", crc32fast::hash(name.as_bytes())).into());
        let kind = Some(random.of(&["manifest", "index"]));
        let pulled = self.ncr.then(|| self.now()).flatten();
        Tag {
            name: name.into(),
            size_bytes: Some(random.below(1 << 40)).filter(|_| random.percent(95)),
            created: self.now().filter(|_| random.percent(90)),
            // Some at the same time, so that the name decides.
            updated: Timestamp::from_milliseconds(BEGINNING + self.clock / 10 * 10),
            last_pulled: pulled,
            info: (!self.ncr).then(|| TagInfo { digest, kind }.into()),
        }
    }

    fn share(&mut self, random: &mut Random) {
        let center = random.of(&[Center::Own, Center::ThirdParty]);
        let name = format!("shared/{}", random.below(12));
        let key = (center.as_str().to_owned(), name.clone());
        if self.shared.remove(&key).is_some() && random.percent(50) {
            return;
        }
        let row = SharedRepository {
            center,
            organization: "others".into(),
            name: name.into(),
            size_bytes: Some(random.below(1 << 50)),
            images: Some(random.below(9)).filter(|n| *n > 0),
            downloads: Some(random.below(99)),
            updated: self.now(),
            valid: (center == Center::ThirdParty).then(|| random.percent(80)),
            owner_account: Some("owner".into()),
            category: None,
        };
        self.shared.insert(key, row);
    }

    fn name(&mut self, random: &mut Random) -> String {
        self.names += 1;
        format!("{}{}", random.of(&["app-", "nested/app-", "a/b/\"c\"-", "ä\\\n-"]), self.names)
    }

    fn now(&self) -> Option<Timestamp> {
        Timestamp::from_milliseconds(BEGINNING + self.clock)
    }
}

/// Milliseconds since 1970 at the beginning of the account.
const BEGINNING: i64 = 1_700_000_000_123;
