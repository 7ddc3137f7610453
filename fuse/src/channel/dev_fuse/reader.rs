//! The task that reads one clone of the device, answers what takes no waiting, and starts a task for all else.

use crate::channel::abi::{self, opcode};
use crate::channel::decode::{Form, Incoming, Message, WriteAsk, caller, decode, request_id};
use crate::channel::encode::{Encoded, failure, nothing_written};
use crate::channel::serving::Serving;
use crate::channel::{Gate, REQUEST_LEN_MAX};
use crate::op::{Op, Request, RequestId};
use forebay_shard::{Device, Frame, READ_NOW_LEN_MAX, Wakes, sleep, spawn, yield_now};
use rustix::io::Errno;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// Requests read before others on the shard get their turn.
const READS_PER_TURN: usize = 32;
/// The pause after the arena had no memory to read into. The requests wait in the kernel meanwhile.
const MEMORY_PAUSE: Duration = Duration::from_millis(10);
/// How often a reader that is held back looks whether it still is.
const SHUT_PAUSE: Duration = Duration::from_millis(2);
/// A write of up to so many bytes is copied into a small frame: the large one would be held for them.
const COPIED_LEN_MAX: usize = 32 << 10;

/// The largest request: a write.
const PAYLOAD_LEN: usize = REQUEST_LEN_MAX as usize;
const _: () = assert!(abi::WRITE_HEAD_LEN + PAYLOAD_LEN >= abi::READ_BUFFER_MIN);

/// Reads requests of one clone, and answers them or starts a task for each.
pub(super) struct Reader {
    device: Device,
    serving: Serving,
    gate: Arc<Gate>,
    head: [u8; abi::WRITE_HEAD_LEN],
    /// Where the next payload goes; gone when a write took it along.
    frame: Option<Frame>,
    /// A request that is no write, in one piece.
    whole: Vec<u8>,
}

/// How a turn of reading ended.
enum Turn {
    /// There may be more.
    More,
    /// Nothing is left.
    Empty,
    /// Nothing is to be read for now.
    Shut,
    /// The session is over.
    Ended,
}

/// What a read gave.
enum Read {
    /// So many bytes.
    Request(usize),
    /// Nothing is there.
    Empty,
    /// There was something, and it is gone.
    Again,
    /// The session is over.
    Ended,
}

impl Reader {
    pub(super) fn new(device: Device, serving: Serving, gate: Arc<Gate>) -> Self {
        Self { device, serving, gate, head: [0; abi::WRITE_HEAD_LEN], frame: None, whole: Vec::new() }
    }

    /// Reads until the session ends.
    ///
    /// # Errors
    /// The connection was aborted, or the device cannot be read.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            self.device.readable(Wakes::OneOf).await?;
            loop {
                match self.take_some().await? {
                    Turn::More => yield_now().await,
                    Turn::Empty => break,
                    Turn::Shut => sleep(SHUT_PAUSE).await,
                    Turn::Ended => return Ok(()),
                }
            }
        }
    }

    /// Takes what is there, up to a turn's worth.
    async fn take_some(&mut self) -> io::Result<Turn> {
        for _ in 0..READS_PER_TURN {
            let mut frame = self.take_frame().await;
            if self.gate.is_shut() {
                self.frame = Some(frame);
                return Ok(Turn::Shut);
            }
            match read(&self.device, &mut self.head, &mut frame)? {
                Read::Request(len) => self.take(len, frame),
                Read::Again => self.frame = Some(frame),
                Read::Empty => {
                    self.frame = Some(frame);
                    return Ok(Turn::Empty);
                }
                Read::Ended => return Ok(Turn::Ended),
            }
        }
        Ok(Turn::More)
    }

    async fn take_frame(&mut self) -> Frame {
        if let Some(frame) = self.frame.take() {
            return frame;
        }
        loop {
            match forebay_shard::arena().frame(PAYLOAD_LEN).await {
                Ok(frame) => return frame,
                Err(error) => tracing::warn!(%error, "no memory to read requests into"),
            }
            sleep(MEMORY_PAUSE).await;
        }
    }

    /// Takes a request of `len` bytes, its first ones in `head` and the rest in `frame`.
    fn take(&mut self, len: usize, frame: Frame) {
        let arrived = Instant::now();
        let Ok((header, args)) = abi::InHeader::read_from_prefix(&self.head[..len.min(self.head.len())])
        else {
            tracing::error!(len, "a request without a header");
            self.frame = Some(frame);
            return;
        };
        let tail_len = len.saturating_sub(self.head.len());
        if header.opcode == opcode::WRITE {
            let incoming = decode(Message { header: &header, head: args, tail: &[] });
            return self.take_write(&header, incoming, frame, tail_len, arrived);
        }
        self.whole.clear();
        self.whole.extend_from_slice(args);
        self.whole.extend_from_slice(&frame[..tail_len]);
        self.frame = Some(frame);
        let head_len = abi::head_len(header.opcode).unwrap_or(0).min(self.whole.len());
        let (head, tail) = self.whole.split_at(head_len);
        match decode(Message { header: &header, head, tail }) {
            Incoming::Ask(op, form) => self.serve(request(&header, arrived, op), form),
            Incoming::Interrupt(id) => self.serving.interrupt(id),
            Incoming::Nothing => {}
            Incoming::Refuse(errno) => send(&self.device, request_id(&header), &failure(errno)),
            Incoming::Write(_) => unreachable!("only a WRITE is one"),
        }
    }

    fn take_write(
        &mut self,
        header: &abi::InHeader,
        incoming: Incoming,
        frame: Frame,
        len: usize,
        arrived: Instant,
    ) {
        let ask = match incoming {
            Incoming::Write(ask) if ask.len == len => ask,
            Incoming::Refuse(errno) => return self.give_up(header, frame, failure(errno)),
            _ => return self.give_up(header, frame, failure(Errno::IO)),
        };
        if len == 0 {
            return self.give_up(header, frame, nothing_written());
        }
        let data = self.payload(frame, len);
        let WriteAsk { handle, offset, clear_privileges, .. } = ask;
        let op = Op::Write { handle, offset, data, clear_privileges };
        self.serve(request(header, arrived, op), Form::Written);
    }

    /// The payload in a frame of its own: the one that it was read into, or a smaller one.
    fn payload(&mut self, mut frame: Frame, len: usize) -> Frame {
        let small = (len <= COPIED_LEN_MAX).then(|| forebay_shard::arena().try_frame(len)).flatten();
        match small {
            Some(mut small) => {
                small.copy_from_slice(&frame[..len]);
                self.frame = Some(frame);
                small
            }
            None => {
                frame.truncate(len);
                frame
            }
        }
    }

    fn give_up(&mut self, header: &abi::InHeader, frame: Frame, answer: Encoded) {
        self.frame = Some(frame);
        send(&self.device, request_id(header), &answer);
    }

    /// Answers a request that takes no waiting, and has a task of its own serve any other.
    fn serve(&self, mut request: Request, form: Form) {
        self.gate.enter();
        place_for_read(&mut request.op);
        if let Some(answer) = self.serving.answer_now(&mut request, form) {
            send(&self.device, request.unique, &answer);
            return self.gate.leave();
        }
        let (device, serving, gate) = (self.device.clone(), self.serving.clone(), Arc::clone(&self.gate));
        spawn(async move {
            let id = request.unique;
            let answer = serving.answer(request, form).await;
            if form != Form::Silent {
                send(&device, id, &answer);
            }
            gate.leave();
        });
    }
}

fn request(header: &abi::InHeader, arrived: Instant, op: Op) -> Request {
    Request { unique: request_id(header), caller: caller(header), arrived, op }
}

/// Gives a read that may be answered at once the memory for its bytes, if there is any just now.
fn place_for_read(op: &mut Op) {
    if let Op::Read { len, into, .. } = op
        && *len <= READ_NOW_LEN_MAX
    {
        *into = forebay_shard::arena().try_frame(*len);
    }
}

/// Reads one request, if there is one.
fn read(device: &Device, head: &mut [u8], frame: &mut Frame) -> io::Result<Read> {
    match rustix::io::readv(device, &mut [IoSliceMut::new(head), IoSliceMut::new(frame)]) {
        Ok(len) => Ok(Read::Request(len)),
        Err(Errno::AGAIN) => Ok(Read::Empty),
        // A signal; a request that was given up while it was being read.
        Err(Errno::INTR | Errno::NOENT) => Ok(Read::Again),
        Err(Errno::NODEV) => Ok(Read::Ended),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes an answer. Nobody waits for it any more if that fails with ENOENT; the session is over with the others.
fn send(device: &Device, id: RequestId, answer: &Encoded) {
    let body = answer.body.bytes();
    let len = size_of::<abi::OutHeader>() + body.len();
    let header = abi::OutHeader { len: len as u32, error: answer.error, unique: id.0 };
    let sent = rustix::io::writev(device, &[IoSlice::new(header.as_bytes()), IoSlice::new(body)]);
    match sent {
        Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {}
        Err(errno) => {
            tracing::error!(unique = id.0, %errno, "the kernel refused an answer");
            let header = abi::OutHeader { len: 16, error: -libc::EIO, unique: id.0 };
            // Without any answer a program would wait for ever.
            let _ = rustix::io::write(device, header.as_bytes());
        }
    }
}
