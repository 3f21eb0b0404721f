//! What it costs to make a page of 100,000 series, of text and of gzip, beside what nobody can avoid: to compress the
//! same text at the same level, and to copy the results once.
//!
//! ```text
//! cargo bench --bench page
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use container_registry_exporter::exposition::limit::{Selection, select};
use container_registry_exporter::exposition::page::Page;
use container_registry_exporter::exposition::source_page::{SourcePage, render};
use container_registry_exporter::inventory::{
    Entry, Inventory, Repositories, Repository, SourceInfo, SourceName, Tag, TagSet, Timestamp,
};
use criterion::{Criterion, Throughput, criterion_group};
use flate2::{Compress, Compression, FlushCompress};

/// With five tags of each, 100,000 series.
const REPOSITORIES: u64 = 4340;
const TAGS: u64 = 5;
/// Most that a page may cost, as a ratio to what nobody can avoid.
const BOUND: f64 = 1.5;
/// Of each, in turn.
const ROUNDS: usize = 21;

fn main() {
    // `cargo test --all-targets` runs this program too, without the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing measured: that takes `cargo bench --bench page`");
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    if !beside_the_floor() {
        std::process::exit(1);
    }
}

criterion_group!(benches, pages);

fn pages(criterion: &mut Criterion) {
    let inventory = inventory();
    let text = page(&inventory, None).1.to_vec();
    let mut group = criterion.benchmark_group("page");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("made anew", |b| b.iter(|| page(&inventory, None)));
    group.bench_function("floor: deflate and copy", |b| b.iter(|| floor(&text)));
    let (first, _) = page(&inventory, None);
    let nothing_new = changed(&inventory, 0);
    group.bench_function("0 % of the repositories changed", |b| {
        // Then the source goes on publishing the same inventory, and nothing else is done.
        b.iter(|| black_box(&nothing_new) == black_box(&inventory));
    });
    for percent in [1, 10] {
        let changed = changed(&inventory, percent);
        group.bench_function(format!("{percent} % of the repositories changed"), |b| {
            b.iter(|| page(&changed, Some(&first)));
        });
    }
    group.finish();
}

/// Makes a page anew and does what cannot be avoided, in turn; says how they compare.
fn beside_the_floor() -> bool {
    let inventory = inventory();
    let text = page(&inventory, None).1.to_vec();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(time(|| drop(black_box(page(&inventory, None)))));
        times[1].push(time(|| drop(black_box(floor(&text)))));
    }
    let [ours, floor] = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2]
    });
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let verdict = if ratio <= BOUND { "reached" } else { "MISSED" };
    println!(
        "a page made anew, {} bytes of text: {ours:.1?}; compressing and copying: {floor:.1?} (medians of {ROUNDS} in \
         turn); ratio {ratio:.3}, at most {BOUND} {verdict}",
        text.len()
    );
    ratio <= BOUND
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The least that a page costs: its text compressed in one go, and both forms copied once.
fn floor(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut compressed = Vec::with_capacity(text.len() / 4);
    let mut compress = Compress::new(Compression::fast(), false);
    compress.compress_vec(text, &mut compressed, FlushCompress::Finish).expect("compressing has no errors");
    assert_eq!(compress.total_in(), text.len() as u64);
    (text.to_vec(), compressed.clone())
}

/// What the exporter does when a source has published: what to serve, its pieces, and the page joined from them.
fn page(
    inventory: &Inventory,
    previous: Option<&(SourcePage, Selection)>,
) -> ((SourcePage, Selection), Page) {
    let nothing = Selection::default();
    let selection = select(inventory, None, previous.map_or(&nothing, |(_, selection)| selection));
    let page = render(inventory, &selection, previous.map(|(page, _)| page));
    let joined = Page::join(&[&page]);
    ((page, selection), joined)
}

/// As `inventory` after a poll in which so many percent of the repositories, evenly spread, were pushed to.
fn changed(inventory: &Inventory, percent: usize) -> Inventory {
    let mut repositories = Repositories::clone(inventory.repositories.as_deref().expect("it has some"));
    if let Some(step) = 100_usize.checked_div(percent) {
        for entry in repositories.entries.iter_mut().step_by(step) {
            let repository = Arc::make_mut(&mut entry.repository);
            repository.size_bytes = repository.size_bytes.map(|bytes| bytes + 1);
            let tags = Arc::make_mut(entry.tags.as_mut().expect("it has some"));
            let tag = &mut tags.newest[0];
            (tag.name, tag.size_bytes) = ("pushed".into(), tag.size_bytes.map(|bytes| bytes + 1));
        }
    }
    Inventory { repositories: Some(Arc::new(repositories)), ..inventory.clone() }
}

fn inventory() -> Inventory {
    let info = SourceInfo {
        name: SourceName::new("swr-0").expect("a valid name"),
        provider: "swr",
        cloud_region: "cn-north-4".to_owned(),
        api_host: "swr-api.cn-north-4.myhuaweicloud.com".to_owned(),
    };
    Inventory {
        source: Arc::new(info),
        up: Some(true),
        organizations_up: Vec::new(),
        repositories: Some(Arc::new(Repositories {
            listed: Some(REPOSITORIES),
            measured: true,
            organizations: Some((0..=REPOSITORIES / 100).map(organization).collect()),
            entries: (0..REPOSITORIES).map(entry).collect(),
        })),
        shared: None,
    }
}

fn organization(number: u64) -> Box<str> {
    format!("org-{number:03}").into()
}

/// A repository whose figures have no pattern that would help compression.
fn entry(number: u64) -> Entry {
    let figure = |salt: u64| u64::from(crc32fast::hash(&(number * 64 + salt).to_le_bytes()));
    let time = |salt| Timestamp::from_milliseconds(1_700_000_000_000 + figure(salt).cast_signed());
    let tag = |n: u64| Tag {
        name: format!("v{n}").into(),
        size_bytes: Some(figure(n)),
        created: time(n + 16),
        updated: time(n + 32),
        ..Tag::default()
    };
    let (organization, name) = (organization(number / 100), format!("repository-{number:05}"));
    let repository = Repository {
        image: Some(format!("swr.cn-north-4.myhuaweicloud.com/{organization}/{name}").into()),
        organization,
        name: name.into(),
        size_bytes: Some(figure(50)),
        images: Some(TAGS),
        downloads: Some(figure(51) % 100_000),
        created: time(52),
        updated: time(53),
        public: Some(number.is_multiple_of(2)),
        category: Some("other".into()),
        tag_names_hash: None,
    };
    let tags = TagSet { images: None, last_push: time(54), newest: (0..TAGS).map(tag).collect() };
    Entry { repository: Arc::new(repository), tags: Some(Arc::new(tags)) }
}
