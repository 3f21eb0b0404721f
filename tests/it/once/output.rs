//! What `--output` names: replaced if it is a regular file, else written into.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;

use container_registry_exporter::simulator::{Call, Fault, Simulator, World};
use tokio::time::timeout;

use super::{SIZE, simulator};
use crate::program::{Files, PATIENCE, command, command_after, swr, text, tool};

async fn once(files: &Files, output: &Path) -> Output {
    let arguments = ["once", &files.flag(), "--output", output.to_str().unwrap()];
    timeout(PATIENCE, command(&arguments).output()).await.unwrap().unwrap()
}

async fn make(program: &str, arguments: &[&str], path: &Path, numbers: &[&str]) {
    let made = tool(program).args(arguments).arg(path).args(numbers).status().await.unwrap();
    assert!(made.success(), "{program} needs root for devices");
}

#[tokio::test]
async fn a_device_is_written_into_and_stays_one() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    // As /dev/null and /dev/full.
    for (name, number, code) in [("null", "3", 0), ("full", "7", 1)] {
        let device = files.path(name);
        make("mknod", &["--mode=666"], &device, &["c", "1", number]).await;
        symlink(name, files.path("link")).unwrap();
        for path in [&device, &files.path("link")] {
            let output = once(&files, path).await;
            assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output.stderr));
            assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
            assert!(fs::symlink_metadata(files.path("link")).unwrap().is_symlink());
        }
        fs::remove_file(files.path("link")).unwrap();
    }
    assert_eq!(files.names(), ["config.toml", "full", "null"]);
}

#[tokio::test]
async fn the_reader_of_a_named_pipe_gets_what_was_read() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let pipe = files.path("pipe");
    make("mkfifo", &[], &pipe, &[]).await;
    let read = |path: &Path| {
        let path = path.to_owned();
        thread::spawn(move || fs::read_to_string(path).unwrap())
    };
    let reader = read(&pipe);
    assert_eq!(once(&files, &pipe).await.status.code(), Some(0));
    assert!(reader.join().unwrap().contains(SIZE));
    // Of a failure it hears, too, or it would wait for ever.
    simulator.fault(Call::ListRepositories, Fault::status(403));
    let reader = read(&pipe);
    assert_eq!(once(&files, &pipe).await.status.code(), Some(1));
    assert!(reader.join().unwrap().contains("container_registry_up{source=\"swr\"} 0\n"));
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(files.names(), ["config.toml", "pipe"]);
}

#[tokio::test]
async fn a_socket_is_written_into() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    let listener = UnixListener::bind(files.path("socket")).unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(once(&files, &files.path("socket")).await.status.code(), Some(0));
    assert!(reader.join().unwrap().contains(SIZE));
}

#[tokio::test]
async fn a_link_is_followed_to_a_file_that_is_replaced_or_made() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    fs::create_dir(files.path("there")).unwrap();
    fs::write(files.path("there/old.prom"), "old").unwrap();
    for (number, to) in ["there/old.prom", "there/new.prom", "link-0"].iter().enumerate() {
        let link = files.path(&format!("link-{number}"));
        symlink(to, &link).unwrap();
        let output = once(&files, &link).await;
        assert_eq!(output.status.code(), Some(0), "{to}: {}", text(&output.stderr));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{to}");
        assert!(fs::read_to_string(&link).unwrap().contains(SIZE), "{to}");
        assert!(fs::symlink_metadata(files.path("there/old.prom")).unwrap().is_file());
    }
    assert_eq!(files.names(), ["config.toml", "link-0", "link-1", "link-2", "there"]);
    assert_eq!(fs::read_dir(files.path("there")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_dash_and_dev_stdout_are_stdout_whatever_that_is() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let arguments = ["once", &files.flag(), "--output", name];
        let output = command(&arguments).current_dir(files.path("")).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(SIZE), "{name}");
        // A file to which the shell appends.
        let all = files.path("all.log");
        fs::write(&all, "before\n").unwrap();
        let before = format!("exec >>{}", all.display());
        let output = command_after(&before, &arguments).current_dir(files.path("")).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        let all = fs::read_to_string(all).unwrap();
        assert!(all.starts_with("before\n# HELP") && all.contains(SIZE), "{name}: {all}");
        assert_eq!(files.names(), ["all.log", "config.toml"]);
    }
}

#[tokio::test]
async fn what_cannot_be_written_to_is_told_before_anything_is_asked() {
    let simulator = simulator().await;
    let files = Files::with_config(&swr(&simulator, ""));
    fs::create_dir(files.path("directory")).unwrap();
    symlink("directory", files.path("link")).unwrap();
    symlink("round", files.path("round")).unwrap();
    for name in ["directory", "link", "round", "config.toml/file"] {
        let output = once(&files, &files.path(name)).await;
        assert_eq!(output.status.code(), Some(2), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    assert_eq!(simulator.all_requests(), 0);
}

#[tokio::test]
async fn a_pipe_that_somebody_made_not_to_block_gets_the_whole_page() {
    // Several hundred kilobytes, of which a pipe takes 64.
    let simulator = Simulator::start(World::uniform(500, 0)).await.unwrap();
    let files = Files::with_config(&swr(&simulator, "shared = []\ntags = { enabled = false }"));
    let (mut reader, blocking) = io::pipe().unwrap();
    let again = format!("/proc/self/fd/{}", blocking.as_raw_fd());
    // As in Linux's `fcntl.h`.
    let writer = OpenOptions::new().write(true).custom_flags(0o4000).open(again).unwrap();
    drop(blocking);
    let child = command(&["once", &files.flag()]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let reader = thread::spawn(move || {
        let mut page = String::new();
        reader.read_to_string(&mut page).unwrap();
        page
    });
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = reader.join().unwrap();
    assert!(page.len() > 100_000 && page.ends_with('\n'), "{} bytes", page.len());
}
