//! What every command has at hand: settings, a clock, and a client once it asks for one.

use crate::args::{Global, duration, pair};
use crate::exit::Failed;
use crate::profile::Profiles;
use crate::progress::Progress;
use flotilla_client::{Client, Options};
use flotilla_types::Clock;
use flotilla_types::time::SystemClock;
use std::sync::Arc;
use std::time::Duration;

/// Where a cluster is looked for if nobody says.
pub const DEFAULT_ENDPOINT: &str = "127.0.0.1:7401";

/// One run of the command.
#[derive(Debug)]
pub struct Session {
    global: Global,
    /// Time, for everything in this run.
    pub clock: Arc<dyn Clock>,
}

impl Session {
    /// Reads nothing yet.
    pub fn new(global: Global) -> Self {
        Self { global, clock: Arc::new(SystemClock::new()) }
    }

    /// The profile that was asked for by name.
    pub fn profile_name(&self) -> Option<&str> {
        self.global.profile.as_deref()
    }

    /// Nodes to begin with and client settings: flags before environment before profile before default.
    pub fn settings(&self) -> Result<(Vec<String>, Options), Failed> {
        let mut options = Options { clock: Arc::clone(&self.clock), ..Options::default() };
        options.call_timeout = Duration::from_secs(20);
        let mut endpoints = None;
        for setting in &self.global.set {
            let (key, value) = pair(setting).map_err(|why| Failed::Usage(format!("-X {why}")))?;
            let time = || duration(&value).map_err(|why| Failed::Usage(format!("-X {key}: {why}")));
            match key.as_str() {
                "endpoints" => endpoints = Some(value.clone()),
                "connect_timeout" => options.connect_timeout = time()?,
                "call_timeout" => options.call_timeout = time()?,
                _ => {
                    let known = "endpoints, connect_timeout, call_timeout";
                    return Err(Failed::Usage(format!("-X {key}: no such setting, expected one of {known}")));
                }
            }
        }
        if let Some(list) = endpoints.or_else(|| self.global.endpoints.clone()) {
            let list: Vec<String> =
                list.split(',').map(str::trim).filter(|e| !e.is_empty()).map(str::to_owned).collect();
            if list.is_empty() {
                return Err(Failed::Usage("the list of endpoints is empty".to_owned()));
            }
            return Ok((list, options));
        }
        let profile = Profiles::read()?.chosen(self.profile_name())?;
        let endpoints = profile.map(|p| p.endpoints).filter(|e| !e.is_empty());
        Ok((endpoints.unwrap_or_else(|| vec![DEFAULT_ENDPOINT.to_owned()]), options))
    }

    /// Connects.
    pub async fn client(&self) -> Result<Client, Failed> {
        let (endpoints, options) = self.settings()?;
        Ok(Client::connect(endpoints, options).await?)
    }

    /// Counts with lines on stderr, unless they are not wanted.
    pub fn progress(&self, verb: &'static str) -> Progress {
        Progress::new(verb, !self.global.no_progress, Arc::clone(&self.clock))
    }

    /// Whether progress lines are wanted.
    pub fn shows_progress(&self) -> bool {
        !self.global.no_progress
    }
}
