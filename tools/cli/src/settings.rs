//! The settings of a running daemon: what they are, and changing those that may change.
//!
//! **Owns** which parts hear of which setting, and that a setting is either changed everywhere or nowhere. **Never
//! does** write a configuration file: what is set here lasts until the daemon ends, and it says so.

use crate::audit::{self, AuditLog};
use crate::cachesize::CACHE_MIN;
use crate::config::{self, Config, FIELDS, Field};
use crate::failure::{Failure, Outcome};
use crate::keeper::Keeper;
use crate::logging::LogSwitch;
use crate::metrics::{MetricsServer, Sources};
use crate::parts::CACHE_TIER;
use forebay_store::Store;
use parking_lot::RwLock;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a change is told to.
pub(crate) struct Hearers {
    pub(crate) log: LogSwitch,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) store: Arc<Store>,
    pub(crate) sources: Sources,
}

/// The settings.
pub(crate) struct Settings {
    now: RwLock<Config>,
    hearers: Hearers,
    metrics: tokio::sync::Mutex<Option<MetricsServer>>,
}

impl Settings {
    /// The settings that a daemon was started with, applied as far as they are live.
    ///
    /// # Errors
    /// The port of the metrics or the file of the audit log cannot be had.
    pub(crate) async fn start(config: Config, hearers: Hearers) -> Outcome<Self> {
        hearers.audit.switch(config.audit.file.as_deref())?;
        let metrics = serve_metrics(config.metrics.listen, &hearers.sources).await?;
        Ok(Self { now: RwLock::new(config), hearers, metrics: tokio::sync::Mutex::new(metrics) })
    }

    /// How long a stop waits for files open for writing.
    pub(crate) fn stop_grace(&self) -> Duration {
        self.now.read().node.stop_grace.0
    }

    /// One setting.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn get(&self, key: &str) -> Outcome<Value> {
        Ok(self.described(named(key)?))
    }

    /// All settings.
    pub(crate) fn list(&self) -> Value {
        let settings: Vec<_> = FIELDS.iter().map(|field| self.described(field)).collect();
        json!({ "settings": settings })
    }

    fn described(&self, field: &Field) -> Value {
        json!({
            "key": field.path,
            "value": self.now.read().value_of(field.path),
            "live": field.live,
            "meaning": field.meaning,
            "variable": field.variable(),
        })
    }

    /// Changes one setting at once, until the daemon ends.
    ///
    /// # Errors
    /// There is none of this name, it takes effect at a start only, or the value cannot be had; nothing has changed.
    pub(crate) async fn set(&self, key: &str, text: &str) -> Outcome<Value> {
        let field = named(key)?;
        if !field.live {
            let how = format!(
                "set it in the configuration file or by {}, and start the daemon again",
                field.variable()
            );
            return Err(Failure::new(format!("{key} takes effect only when the daemon starts")).remedy(how));
        }
        // Held to the end, so that two changes do not cross.
        let mut metrics = self.metrics.lock().await;
        let before = self.now.read().clone();
        let next = config::changed(&before, key, text)
            .map_err(|fault| Failure::new(format!("{key}: {fault}")).remedy("see `forebay config list`"))?;
        match key {
            "log.filter" => self.hearers.log.set(&next.log.filter)?,
            "keeper.every" => self.hearers.keeper.set_every(next.keeper.every.0),
            "audit.file" => self.switch_audit(&next).await?,
            "cache.size" => self.resize_cache(&next)?,
            "metrics.listen" if next.metrics.listen != before.metrics.listen => {
                // The old port is given up only once the new one is had.
                *metrics = serve_metrics(next.metrics.listen, &self.hearers.sources).await?;
            }
            // Looked at when it is wanted.
            _ => {}
        }
        *self.now.write() = next;
        tracing::info!(key, value = text, "a setting was changed");
        let mut said = self.described(field);
        said["lasts"] = "until the daemon ends: write it into its configuration to keep it".into();
        Ok(said)
    }

    async fn switch_audit(&self, next: &Config) -> Outcome<()> {
        let (audit, file) = (Arc::clone(&self.hearers.audit), next.audit.file.clone());
        let switched = tokio::task::spawn_blocking(move || audit.switch(file.as_deref())).await;
        switched
            .unwrap_or_else(|error| Err(Failure::new(format!("switching the audit log panicked: {error}"))))
    }

    fn resize_cache(&self, next: &Config) -> Outcome<()> {
        if !next.cache.tiers.is_empty() {
            return Err(Failure::new("the cache has several tiers, each with its own quota")
                .remedy("change the quota in [[cache.tiers]] and start again"));
        }
        let size = next.cache.size.ok_or_else(|| {
            Failure::new("cache.size can be left to Forebay only at a start")
                .remedy("give a size, like 64GiB")
        })?;
        if size < CACHE_MIN {
            return Err(Failure::new(format!("a cache of {size} is too small"))
                .remedy(format!("give at least {}", CACHE_MIN)));
        }
        self.hearers.store.set_quota(CACHE_TIER, size).map_err(Failure::new)
    }
}

/// Tries what a start needs besides its mount, so that a refusal comes while nothing is made yet.
///
/// # Errors
/// The port of the metrics or the file of the audit log cannot be had.
pub(crate) async fn try_out(config: &Config) -> Outcome<()> {
    if let Some(address) = config.metrics.listen {
        tokio::net::TcpListener::bind(address).await.map_err(|error| no_port(address, &error))?;
    }
    if let Some(file) = &config.audit.file {
        audit::open(file)?;
    }
    Ok(())
}

fn no_port(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot serve metrics on {address}: {error}"))
        .remedy("set metrics.listen (FOREBAY_METRICS_LISTEN) to a free address and port")
}

fn named(key: &str) -> Outcome<&'static Field> {
    Field::named(key).ok_or_else(|| {
        Failure::new(format!("there is no setting {key}")).remedy("`forebay config list` shows them all")
    })
}

async fn serve_metrics(address: Option<SocketAddr>, sources: &Sources) -> Outcome<Option<MetricsServer>> {
    let Some(address) = address else { return Ok(None) };
    let server = MetricsServer::start(address, sources.clone()).await;
    let server = server.map_err(|error| no_port(address, &error))?;
    Ok(Some(server))
}
