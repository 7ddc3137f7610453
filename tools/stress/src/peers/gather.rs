//! How the nodes of a run find each other: one waits at an address until all others have come there.

use super::wire::{self, Message, VERSION};
use super::{Ends, LOOK_EVERY, Peer, Peers};
use crate::args::some;
use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::report::System;
use clap::Args;
use rustix::net::sockopt;
use serde_json::Value;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long nodes wait for each other at the start.
const GATHER_WITHIN: Duration = Duration::from_secs(300);
/// How long a node that has come may take to say who it is, and a sent message to leave.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A connection whose other end is silent that long is asked; closed after so many questions without an answer.
const SILENT: Duration = Duration::from_secs(10);
const QUESTIONS: u32 = 3;

/// Several nodes that measure together.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Together {
    /// Wait at this address for the other nodes, begin every phase with them, and report of all.
    #[arg(long, value_name = "HOST:PORT", requires = "nodes", help_heading = "Several nodes")]
    coordinate: Option<String>,
    /// How many nodes there are, this one among them.
    #[arg(long, value_name = "N", requires = "coordinate", value_parser = some, help_heading = "Several nodes")]
    nodes: Option<usize>,
    /// Take part in the run that is coordinated there. All else has to be the same as there, but for paths.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "coordinate", help_heading = "Several nodes")]
    join: Option<String>,
}

/// Finds the other nodes of a run, if it has any; the report then names the machines of all.
///
/// # Errors
/// They did not come in time, or run something else.
pub(crate) fn gather(together: &Together, bench: &mut Bench) -> Result<()> {
    bench.peers = match (&together.coordinate, &together.join, together.nodes) {
        (Some(at), _, Some(nodes)) => wait_for(at, nodes, bench)?,
        (_, Some(at), _) => join(at, bench)?,
        _ => return Ok(()),
    };
    Ok(())
}

fn wait_for(at: &str, nodes: usize, bench: &mut Bench) -> Result<Peers> {
    let listen = |at: &str| {
        TcpListener::bind(at).and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
    };
    let listener = listen(at).map_err(|error| cannot("wait", at, &error))?;
    let address = listener.local_addr().map_err(|error| cannot("wait", at, &error))?;
    eprintln!("waiting for {} more at {address}", nodes - 1);
    let deadline = Instant::now() + GATHER_WITHIN;
    let mut others: Vec<(String, TcpStream)> = Vec::new();
    while others.len() + 1 < nodes {
        let come = accept(&listener, deadline, bench)?;
        match greet(&come, bench) {
            Ok(system) => {
                others.push((format!("node {} ({})", others.len() + 1, system.host), come));
                bench.report.systems.push(system);
            }
            // Who does not fit is told so, and another may come.
            Err(why) => {
                eprintln!("refused: {why}");
                let _ = wire::write(&mut &come, &Message::Refused { why });
            }
        }
    }
    for (index, (name, stream)) in others.iter().enumerate() {
        let welcome = Message::Welcome { node: index + 1, nodes };
        wire::write(&mut &*stream, &welcome).map_err(|error| cannot("welcome", name, &error))?;
    }
    let ends = Ends { stop: bench.stage.stop.clone(), ..Ends::default() };
    let others = others.into_iter().map(|(name, stream)| Peer::new(name, stream, ends.clone()));
    Ok(Peers::new(0, nodes, others.collect::<Result<_>>()?, ends))
}

fn accept(listener: &TcpListener, deadline: Instant, bench: &Bench) -> Result<TcpStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => return prepared(stream).map_err(|error| cannot("hear", "a node", &error)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pause(deadline, bench, "the other nodes")?
            }
            Err(error) => return Err(cannot("wait", "the other nodes", &error)),
        }
    }
}

/// Hears who has come, and whether it runs the same.
fn greet(stream: &TcpStream, bench: &Bench) -> std::result::Result<System, String> {
    let said = stream.set_read_timeout(Some(ANSWER_WITHIN)).and_then(|()| wire::read(&mut &*stream));
    stream.set_read_timeout(None).map_err(|error| error.to_string())?;
    let Message::Hello { version, workload, settings, system } = said.map_err(|error| error.to_string())?
    else {
        return Err("it does not begin as a node does".to_owned());
    };
    if version != VERSION || workload != bench.report.workload {
        return Err(format!(
            "it runs {workload} of version {version}, here is {} of {VERSION}",
            bench.report.workload
        ));
    }
    match difference(&bench.report.settings, &settings) {
        Some(other) => Err(format!("the settings differ: {other}")),
        None => Ok(system),
    }
}

/// The first setting that is not the same.
fn difference(here: &Value, there: &Value) -> Option<String> {
    let (Some(mine), Some(other)) = (here.as_object(), there.as_object()) else {
        return (here != there).then(|| "their form".to_owned());
    };
    let keys = mine.keys().chain(other.keys());
    let differ = |key: &&String| mine.get(*key) != other.get(*key);
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    keys.into_iter()
        .find(differ)
        .map(|key| format!("{key} is {} here and {} there", shown(mine.get(key)), shown(other.get(key))))
}

fn join(at: &str, bench: &mut Bench) -> Result<Peers> {
    let deadline = Instant::now() + GATHER_WITHIN;
    let stream = loop {
        match TcpStream::connect(at).and_then(prepared) {
            Ok(stream) => break stream,
            // The coordinator may start after this node.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => pause(deadline, bench, at)?,
            Err(error) => return Err(cannot("join", at, &error)),
        }
    };
    let hello = Message::Hello {
        version: VERSION,
        workload: bench.report.workload.to_owned(),
        settings: bench.report.settings.clone(),
        system: System::this(),
    };
    wire::write(&mut &stream, &hello).map_err(|error| cannot("join", at, &error))?;
    let ends = Ends { stop: bench.stage.stop.clone(), ..Ends::default() };
    let coordinator = Peer::new(format!("the coordinator ({at})"), stream, ends.clone())?;
    let mut peers = Peers::new(0, 1, vec![coordinator], ends);
    match peers.receive(&peers.others[0], false)? {
        Message::Welcome { node, nodes } if (1..nodes).contains(&node) => {
            (peers.node, peers.nodes) = (node, nodes);
            Ok(peers)
        }
        Message::Refused { why } => {
            Err(Error::usage(format!("{at} refused this node: {why}"), "give all nodes the same settings"))
        }
        _ => Err(peers.others[0].error("does not answer as one")),
    }
}

/// A connection that notices when its other end is gone, and never waits long to send.
fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, SILENT)?;
    sockopt::set_tcp_keepintvl(&stream, SILENT)?;
    sockopt::set_tcp_keepcnt(&stream, QUESTIONS)?;
    Ok(stream)
}

/// A pause while something is waited for.
fn pause(deadline: Instant, bench: &Bench, whom: &str) -> Result<()> {
    if bench.stage.stop.is_set() {
        return Err(Error::Interrupted);
    }
    if Instant::now() >= deadline {
        let why = format!("did not come within {} s", GATHER_WITHIN.as_secs());
        return Err(Error::Peer { name: whom.to_owned(), why });
    }
    std::thread::sleep(LOOK_EVERY);
    Ok(())
}

fn cannot(what: &str, whom: &str, error: &io::Error) -> Error {
    Error::usage(
        format!("cannot {what} at {whom}: {error}"),
        "give an address of this network like 10.0.0.1:7000",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_setting_that_differs_is_named() {
        let here = json!({ "threads": 4, "size": 10 });
        assert_eq!(difference(&here, &here.clone()), None);
        let said = difference(&here, &json!({ "threads": 8, "size": 10 })).unwrap();
        assert_eq!(said, "threads is 4 here and 8 there");
        assert!(
            difference(&here, &json!({ "threads": 4, "size": 10, "cold": true })).unwrap().contains("cold")
        );
        assert!(difference(&here, &json!(7)).is_some());
    }
}
