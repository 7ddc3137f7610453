//! The daemon's end: the socket, who may speak, and one task a conversation.

use super::{Event, LINE_LEN_MAX, Request, Service, place};
use crate::audit::AdminEvent;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Conversations at a time; more wait in the socket's own queue.
const CONVERSATIONS_MAX: usize = 32;
/// How long a client may take to say what it wants, and to take an answer.
const CLIENT_WITHIN: Duration = Duration::from_secs(10);
/// Events that may wait for a slow client.
const EVENTS_MAX: usize = 16;
/// A pause after an accept that failed, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the admin socket {socket}: {source}", socket = socket.display())]
pub(crate) struct AdminError {
    socket: PathBuf,
    source: io::Error,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    socket: PathBuf,
    listens: JoinHandle<()>,
}

impl Server {
    /// Listens for the daemon that serves the mount on `dir`. Must run on a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn start(dir: &Path, service: Service) -> Result<Self, AdminError> {
        let socket = place::socket_of(dir);
        let listener = bind(&socket).map_err(|source| AdminError { socket: socket.clone(), source })?;
        let listens = tokio::spawn(listen(listener, Arc::new(service)));
        Ok(Self { socket, listens })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listens.abort();
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(socket = %self.socket.display(), %error, "the admin socket was gone already");
        }
    }
}

/// A socket that an earlier daemon left is replaced: nobody else can serve this mount point, it was free.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let dir = place::directory();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn listen(listener: UnixListener, service: Arc<Service>) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket takes no connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &service).await {
                tracing::debug!(%error, "an admin conversation broke off");
            }
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, service: &Service) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (from, mut to) = stream.into_split();
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        tracing::warn!(
            uid = peer.uid(),
            pid = peer.pid(),
            "a user without the right spoke to the admin socket"
        );
        service.audit.asked(event_of(&peer, "refused", None));
        return send(&mut to, &failed("only root and the daemon's own user may ask")).await;
    }
    let request = match tokio::time::timeout(CLIENT_WITHIN, read_request(from)).await {
        Ok(Ok(request)) => request,
        Ok(Err(fault)) => return send(&mut to, &failed(fault)).await,
        Err(_) => return send(&mut to, &failed("no request came in time")).await,
    };
    tracing::debug!(request = request.name(), uid = peer.uid(), pid = peer.pid(), "admin request");
    let mut audited = request.changes().map(|about| event_of(&peer, request.name(), Some(about)));
    if let (Request::ConfigSet { key, .. }, Some(event)) = (&request, &audited)
        && key == "audit.file"
    {
        // The log that is about to end tells who ended it.
        service.audit.asked(AdminEvent { result: "begun".to_owned(), ..event.clone() });
    }
    let began = Instant::now();
    let answered = answer(service, request, &mut to).await;
    if let Some(event) = &mut audited {
        event.result = match &answered {
            Ok(Ok(())) => "ok".to_owned(),
            Ok(Err(cause)) => cause.clone(),
            Err(error) => format!("the client went away: {error}"),
        };
        event.latency = began.elapsed();
    }
    audited.into_iter().for_each(|event| service.audit.asked(event));
    answered.map(drop)
}

/// What is told of a request before its outcome is known.
fn event_of(peer: &UCred, request: &'static str, about: Option<String>) -> AdminEvent {
    AdminEvent {
        request,
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        about,
        result: "denied".to_owned(),
        latency: Duration::ZERO,
    }
}

/// Runs the request and sends what it says; when the client goes away, the request is dropped with it. Says what came of
/// it.
async fn answer(
    service: &Service,
    request: Request,
    to: &mut OwnedWriteHalf,
) -> io::Result<Result<(), String>> {
    let (says, mut said) = mpsc::channel(EVENTS_MAX);
    let work = service.serve(request, says);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(event) = said.recv() => send(to, &event).await?,
            outcome = &mut work => {
                while let Ok(event) = said.try_recv() {
                    send(to, &event).await?;
                }
                let (last, came) = match outcome {
                    Ok(result) => (Event::Done { result }, Ok(())),
                    Err(failure) => {
                        let (cause, remedy) = failure.into_parts();
                        (Event::Failed { cause: cause.clone(), remedy }, Err(cause))
                    }
                };
                send(to, &last).await?;
                return Ok(came);
            }
        }
    }
}

fn failed(cause: impl std::fmt::Display) -> Event {
    Event::Failed { cause: cause.to_string(), remedy: None }
}

async fn read_request(from: OwnedReadHalf) -> Result<Request, String> {
    let mut line = Vec::new();
    let read = BufReader::new(from.take(LINE_LEN_MAX as u64)).read_until(b'\n', &mut line).await;
    read.map_err(|error| error.to_string())?;
    parse_request(&line)
}

fn parse_request(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("this is no request: {error}"))
}

async fn send(to: &mut OwnedWriteHalf, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event).expect("our own structures have string keys only");
    line.push(b'\n');
    match tokio::time::timeout(CLIENT_WITHIN, to.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_one_object_a_line() {
        let request = parse_request(b"{\"command\":\"load\",\"path\":[97]}\n").unwrap();
        assert_eq!(request, Request::Load { path: vec![b'a'] });
        assert!(parse_request(b"").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_request(&line);
        }
    }
}
