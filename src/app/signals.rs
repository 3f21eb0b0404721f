//! The signals that end the process, from its first line on: where it is the first process of a container, no other
//! than a handled one does.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::AppError;

/// What a command has under way may end in this time: more than the server takes, and with the log's last wait less
/// than the five seconds that the process has.
const LAST_WORK: Duration = Duration::from_millis(3_250);

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl StopSignals {
    /// From now on these signals do nothing but what is said here.
    ///
    /// Errors: the system has no room for it.
    pub fn new() -> Result<Self, AppError> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Runs `work` to its end, or until one of the signals comes. `stop` is then cancelled, and for some seconds `work`
    /// may still say how it ended. Where it does not, that is a success if it is `stopped_well` by a signal; else the
    /// exit code is that of a process that the signal killed, as a shell tells it.
    pub async fn run(
        &mut self,
        stop: &CancellationToken,
        stopped_well: bool,
        work: impl Future<Output = Option<ExitCode>>,
    ) -> ExitCode {
        tokio::pin!(work);
        let signal = tokio::select! {
            code = &mut work => return code.unwrap_or(ExitCode::FAILURE),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        stop.cancel();
        match timeout(LAST_WORK, work).await {
            Ok(Some(code)) => code,
            _ if stopped_well => ExitCode::SUCCESS,
            _ => ExitCode::from(u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX)),
        }
    }
}

/// What a running exporter is told from outside.
pub struct Signals {
    stop: CancellationToken,
    hang_up: unix::Signal,
}

/// What a signal asks for.
pub(super) enum Signal {
    Stop,
    Reload,
}

impl Signals {
    /// `stop` ends the exporter; from now on SIGHUP has it reload.
    ///
    /// Errors: the system has no room for it.
    pub fn new(stop: CancellationToken) -> Result<Self, AppError> {
        Ok(Self { stop, hang_up: listen(SignalKind::hangup())? })
    }

    /// The next one. A reload is kept for later unless the exporter is `idle`.
    pub(super) async fn next(&mut self, idle: bool) -> Signal {
        tokio::select! {
            () = self.stop.cancelled() => Signal::Stop,
            _ = self.hang_up.recv(), if idle => Signal::Reload,
        }
    }
}

fn listen(kind: SignalKind) -> Result<unix::Signal, AppError> {
    let what = "cannot listen for signals".to_owned();
    unix::signal(kind).map_err(|source| AppError::System { what, source })
}
