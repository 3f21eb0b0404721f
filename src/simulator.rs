//! Huawei SWR, Huawei IAM and NAVER NCR as real HTTP servers on loopback, and what both clouds' servers find on
//! themselves (metadata, pod identity), over one state that can be edited while they run, with faults as data.
//!
//! They are as strict and as odd as the vendors' documents say: signatures are computed anew from what arrived, and
//! pages, totals, names with slashes and error bodies follow the documents that the code beside them names. Nothing
//! here uses the rest of the program, so that the two can be wrong only independently.
//!
//! ```no_run
//! use container_registry_exporter::simulator::{Call, Fault, Repository, Simulator, Tag, World};
//!
//! # async fn example() -> std::io::Result<()> {
//! let mut world = World::empty();
//! world.swr.add(Repository::new("group", "team/app").with_tag(Tag::new("v1", 1_304_902)));
//! let simulator = Simulator::start(world).await?;
//! simulator.fault(Call::ListTags, Fault::status(503)).repository("group/team/app").times(2);
//! // ... point the client at simulator.swr_url() with the keys of simulator::keys ...
//! simulator.edit(|world| world.swr.repositories.clear());
//! assert_eq!(simulator.requests(Call::ListTags), 0);
//! # Ok(())
//! # }
//! ```

mod bomb;
mod call;
pub mod demo;
mod error_body;
mod fault;
mod federation;
mod gateway;
mod http;
mod iam;
mod made_up;
mod metadata;
mod ncr;
mod page;
mod record;
mod reply;
mod row;
mod signature;
#[cfg(test)]
mod smoke;
mod swr;
mod world;

pub use call::Call;
pub use error_body::{ErrorBody, ErrorShape};
pub use fault::Fault;
pub use record::Exchange;
pub use world::{
    AccessKey, Iam, IamToken, IamUser, Image, ImageTag, KeyServices, Manifest, Ncr, Overrides, PastTheEnd,
    Platform, Project, Registry, Repository, Sessions, Swr, Tag, WebToken, World, keys,
};

use fault::Faults;
use http::Service;
use record::Recorder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The running servers; dropping it stops them at once, answers in flight included.
pub struct Simulator {
    shared: Arc<Shared>,
    swr: SocketAddr,
    iam: SocketAddr,
    ncr: SocketAddr,
    local: SocketAddr,
    _servers: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
    recorder: Recorder,
}

struct State {
    world: World,
    faults: Faults,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator {
    /// Serves `world` on free ports of 127.0.0.1; needs a tokio runtime.
    pub async fn start(world: World) -> io::Result<Self> {
        let state = Mutex::new(State { world, faults: Faults::default() });
        let shared = Arc::new(Shared { state, recorder: Recorder::default() });
        let mut servers = JoinSet::new();
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 4];
        let services = [Service::Swr, Service::Iam, Service::Ncr, Service::Local];
        for (address, service) in addresses.iter_mut().zip(services) {
            let listener = TcpListener::bind(*address).await?;
            *address = listener.local_addr()?;
            servers.spawn(http::serve(listener, service, Arc::clone(&shared)));
        }
        let [swr, iam, ncr, local] = addresses;
        Ok(Self { shared, swr, iam, ncr, local, _servers: servers })
    }

    /// Base address of SWR, such as `http://127.0.0.1:4711`.
    pub fn swr_url(&self) -> String {
        format!("http://{}", self.swr)
    }

    /// Base address of both clouds' metadata services.
    pub fn metadata_url(&self) -> String {
        format!("http://{}", self.local)
    }

    /// Address of the agent of pod identity, its path included.
    pub fn agent_url(&self) -> String {
        format!("http://{}{}", self.local, metadata::AGENT_PATH)
    }

    /// Base address of IAM, and of STS.
    pub fn iam_url(&self) -> String {
        format!("http://{}", self.iam)
    }

    /// Base address of NCR with the path of the region KR; [`Simulator::ncr_url_below`] has the others.
    pub fn ncr_url(&self) -> String {
        self.ncr_url_below(ncr::BASE_PATHS[0])
    }

    /// Base address of NCR with another base path, such as `/ncr/sgn-api/v2`.
    pub fn ncr_url_below(&self, base_path: &str) -> String {
        format!("http://{}{base_path}", self.ncr)
    }

    /// Looks at or changes the state between two answers.
    pub fn edit<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        change(&mut self.shared.lock().world)
    }

    /// Makes a call misbehave from its next request on; narrow it down with the methods of the answer.
    #[expect(clippy::must_use_candidate, reason = "most faults are meant to stay until the test ends")]
    pub fn fault(&self, call: Call, fault: Fault) -> FaultInForce<'_> {
        let id = self.shared.lock().faults.add(call, fault);
        FaultInForce { shared: &self.shared, id }
    }

    /// Ends every fault.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// How many requests a call had, refused and failed ones included.
    pub fn requests(&self, call: Call) -> u64 {
        self.shared.recorder.requests(Some(call))
    }

    /// How many requests there were in all, those to unknown addresses included.
    pub fn all_requests(&self) -> u64 {
        self.shared.recorder.all_requests()
    }

    /// The highest number of requests of a call that were in flight at one time.
    pub fn most_in_flight(&self, call: Call) -> usize {
        self.shared.recorder.most_in_flight(Some(call))
    }

    /// The highest number of requests of all services that were in flight at one time.
    pub fn most_in_flight_overall(&self) -> usize {
        self.shared.recorder.most_in_flight(None)
    }

    /// The latest exchanges, oldest first; [`World::log_limit`] bounds them.
    pub fn log(&self) -> Vec<Exchange> {
        self.shared.recorder.log()
    }

    /// Empties the log and sets all counts back.
    pub fn clear_log(&self) {
        self.shared.recorder.clear();
    }
}

/// A fault that was just set; dropping it leaves the fault in force.
pub struct FaultInForce<'a> {
    shared: &'a Shared,
    id: u64,
}

impl FaultInForce<'_> {
    /// Only for requests about one thing: `organization/repository`, `registry`, or `registry/image` for tags.
    #[expect(clippy::return_self_not_must_use, reason = "the fault is in force already")]
    pub fn repository(self, key: &str) -> Self {
        self.shared.lock().faults.set_key(self.id, key);
        self
    }

    /// Only from the `number`th matching request on, counted from 1 since the fault was set.
    #[expect(clippy::return_self_not_must_use, reason = "the fault is in force already")]
    pub fn from_request(self, number: u64) -> Self {
        self.shared.lock().faults.set_from(self.id, number);
        self
    }

    /// Only for this many requests.
    #[expect(clippy::return_self_not_must_use, reason = "the fault is in force already")]
    pub fn times(self, times: u64) -> Self {
        self.shared.lock().faults.set_times(self.id, times);
        self
    }

    /// Ends the fault.
    pub fn end(self) {
        self.shared.lock().faults.remove(self.id);
    }
}
