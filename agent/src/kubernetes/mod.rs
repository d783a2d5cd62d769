//! The API server of a Kubernetes cluster, for all who read it: discovery of targets, labels of pods, and lines.
//!
//! # Contracts
//! - A resource is listed once, page by page, and then watched from the list's version on, with bookmarks. Where the server
//!   has forgotten that version (410), or anything fails, it is listed again after a wait that doubles from [`MIN_WAIT`] to
//!   [`MAX_WAIT`].
//! - A listener is told in order, and nothing is read further until it has taken what it was told.

mod api;
mod events;
mod kubeconfig;
pub mod lines;
pub mod objects;
mod terminations;
#[cfg(test)]
pub mod tests;

use std::future::Future;
use std::time::Duration;

pub use api::{Api, ApiError, Change, Kind, Page, Resource, change};
use objects::Versioned;

pub const MIN_WAIT: Duration = Duration::from_millis(500);
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// What a listener is told.
pub enum Told<T> {
    Page(Page<T>),
    /// One at least.
    Changes(Vec<Change<T>>),
}

/// Nobody needs to know more.
pub struct Enough;

/// Hears of all that happens to a resource.
pub trait Listener<T>: Send {
    fn told(&mut self, told: Told<T>) -> impl Future<Output = Result<(), Enough>> + Send;
    fn failed(&mut self, error: &str);
}

/// Why following came to a halt.
enum Halt {
    Enough,
    Error(ApiError),
}

impl From<Enough> for Halt {
    fn from(_: Enough) -> Halt {
        Halt::Enough
    }
}

impl From<ApiError> for Halt {
    fn from(error: ApiError) -> Halt {
        Halt::Error(error)
    }
}

/// Tells of a resource until the listener has heard enough. With `from`, the first watch goes on there and nothing is listed
/// before it.
pub async fn follow<T: Versioned>(
    api: &Api,
    resource: &Resource,
    mut from: Option<String>,
    listener: &mut impl Listener<T>,
) {
    let mut wait = MIN_WAIT;
    loop {
        match round(api, resource, from.take(), &mut wait, listener).await {
            Halt::Enough => return,
            // The version is too old: the list gives a new one.
            Halt::Error(ApiError::Gone) => wait = MIN_WAIT,
            Halt::Error(ApiError::Failed(error)) => listener.failed(&error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MAX_WAIT);
    }
}

/// Lists, then watches until something fails.
async fn round<T: Versioned>(
    api: &Api,
    resource: &Resource,
    from: Option<String>,
    wait: &mut Duration,
    listener: &mut impl Listener<T>,
) -> Halt {
    let watched = async {
        let mut version = match from {
            Some(version) => version,
            None => list(api, resource, listener).await?,
        };
        loop {
            let mut watch = api.watch(resource, &version).await?;
            let mut is_empty = true;
            loop {
                let changes: Vec<Change<T>> = watch.next().await?;
                let Some(last) = changes.last() else { break };
                (*wait, is_empty) = (MIN_WAIT, false);
                last.version().clone_into(&mut version);
                listener.told(Told::Changes(changes)).await?;
            }
            if is_empty {
                // A server that ends watches at once is not asked without pause.
                tokio::time::sleep(MIN_WAIT).await;
            }
        }
    };
    let halted: Result<std::convert::Infallible, Halt> = watched.await;
    match halted {
        Err(halt) => halt,
    }
}

/// Tells of all objects there are; answers their version.
async fn list<T: Versioned>(api: &Api, resource: &Resource, listener: &mut impl Listener<T>) -> Result<String, Halt> {
    let mut at = String::new();
    loop {
        let (page, next) = api.page::<T>(resource, &at).await?;
        let version = page.version.clone();
        listener.told(Told::Page(page)).await?;
        if next.is_empty() {
            return Ok(version);
        }
        at = next;
    }
}

/// Opens what will be there sooner or later: a service account that is mounted late, a file that is written.
pub async fn open(open: impl Fn() -> Result<Api, String>, failed: impl Fn(&str)) -> Api {
    let mut wait = MIN_WAIT;
    loop {
        match open() {
            Ok(api) => return api,
            Err(error) => failed(&error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MAX_WAIT);
    }
}
