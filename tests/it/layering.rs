//! The one direction of the pipeline: a module imports only from modules before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Each may name those before it. `simulator` names none of them, and nobody names it but `app`.
const ORDER: [&str; 12] = [
    "inventory",
    "telemetry",
    "config",
    "client",
    "provider",
    "scheduler",
    "state",
    "exposition",
    "server",
    "cli",
    "simulator",
    "app",
];

static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::(\w+|\{)").unwrap());
static SUPERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bsuper(::super)*\b").unwrap());

/// All that is wrong with the imports of `text`, the source of the module with this path.
fn violations(module: &[String], text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inner_modules = 0;
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.starts_with("mod ") && code.ends_with('{') {
            inner_modules = 1;
        } else if code == "}" {
            inner_modules = 0;
        }
        let at = format!("{}, line {}", module.join("::"), number + 1);
        for name in PATH.captures_iter(code).map(|captures| captures[1].to_owned()) {
            if name == "{" {
                found.push(format!("{at}: write one `use` for each module of the crate"));
            } else if !may_name(&module[0], &name) {
                found.push(format!("{at}: {} must not name {name}", module[0]));
            }
        }
        for chain in SUPERS.find_iter(code) {
            if chain.as_str().matches("super").count() >= module.len() + inner_modules {
                found.push(format!("{at}: {} leaves the module; write crate::", chain.as_str()));
            }
        }
    }
    found
}

fn may_name(module: &str, other: &str) -> bool {
    let place = |name: &str| {
        let place = ORDER.iter().position(|module| *module == name);
        place.unwrap_or_else(|| panic!("{name} has no place in the order of modules"))
    };
    let above = module != "simulator" && place(other) < place(module);
    module == other || above && (other != "simulator" || module == "app")
}

/// The files of `src` but `main.rs` and `lib.rs`, which stand outside of the order.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["src/main.rs", "src/lib.rs"].iter().any(|outside| path == Path::new(outside))
        {
            found.push(path);
        }
    }
}

fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let below = path.strip_prefix("src").unwrap();
    below.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

#[test]
fn no_module_names_one_that_comes_after_it() {
    let mut paths = Vec::new();
    files(Path::new("src"), &mut paths);
    assert!(paths.len() > 60, "{}", paths.len());
    let found: Vec<String> =
        paths.iter().flat_map(|path| violations(&module(path), &fs::read_to_string(path).unwrap())).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let declared = Regex::new(r"(?m)^pub mod (\w+);").unwrap();
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let names: Vec<_> = declared.captures_iter(&text).map(|captures| captures[1].to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(ORDER.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_first_page_lists_the_modules_in_this_order() {
    let listed = Regex::new(r"(?m)^//! - \[`(\w+)`\]").unwrap();
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let listed: Vec<_> = listed.captures_iter(&text).map(|captures| captures[1].to_owned()).collect();
    let declared = |module: &&str| text.contains(&format!("pub mod {module};"));
    let expected: Vec<_> = ORDER.into_iter().filter(declared).filter(|m| *m != "simulator").collect();
    assert_eq!(listed, expected);
}

#[test]
fn violations_are_found() {
    let at = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    for (module, line) in [
        ("inventory", "use crate::config::Config;"),
        ("client::page", "    let x = crate::provider::y();"),
        ("simulator::swr", "use crate::inventory::Tag;"),
        ("server", "use crate::simulator::World;"),
        ("config", "use crate::{client::Poll, inventory::Tag};"),
        ("config", "use super::client;"),
        ("config::auth", "use super::super::client;"),
        ("config", "mod tests {\n    use super::super::client;\n}"),
        ("config", "mod tests {\n}\nuse super::client;"),
    ] {
        assert_eq!(violations(&at(module), line).len(), 1, "{module}: {line}");
    }
    for (module, line) in [
        ("server", "use crate::inventory::Tag; // and crate::app"),
        ("app::demo", "use crate::simulator::World;"),
        ("config", "mod tests {\n    use super::*;\n}"),
        ("config::auth", "use super::value::Table;"),
        ("simulator::world::swr", "pub(in super::super) fn x() {}"),
    ] {
        assert_eq!(violations(&at(module), line), [""; 0], "{module}: {line}");
    }
}
