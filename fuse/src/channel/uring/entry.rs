//! One entry of a queue: two buffers that the kernel knows, and the task that serves what comes into them.
//!
//! **Ownership is the point.** The buffers ([`Buffers`]) belong either to the task, which reads a request from them and
//! puts the answer into them, or to the kernel, from the moment a command is given until it completes: they are moved
//! into the command and come back with its result. The payload of a write goes on as a frame without a copy, and a read
//! is given the payload as the frame to fill; the next command waits until that frame is back.

use crate::channel::abi::{self, RingHeaders, ring};
use crate::channel::decode::{Form, Incoming, Message, WriteAsk, caller, decode, request_id};
use crate::channel::encode::{Body, Encoded, failure, nothing_written};
use crate::channel::serving::Serving;
use crate::op::{Op, Request};
use forebay_shard::{COMMAND_DATA_LEN, Command, Device, FixedFrame, Frame, timeout};
use rustix::io::Errno;
use std::io;
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// A write whose bytes are held for so much longer than its answer took is reported. The memory cannot be used
/// otherwise before, so there is nothing to do but to say so.
const PAYLOAD_WARN_AFTER: Duration = Duration::from_secs(30);

/// What the kernel was told of with REGISTER.
struct Buffers {
    headers: RingHeaders,
    payload: FixedFrame,
    /// Both of them, as REGISTER names them.
    iovec: [libc::iovec; ring::IOVEC_LEN as usize],
}

/// An entry of one queue.
pub(super) struct Entry {
    device: Device,
    serving: Serving,
    /// The CPU whose requests come here.
    queue: u16,
}

impl Entry {
    pub(super) fn new(device: Device, serving: Serving, queue: u16) -> Self {
        Self { device, serving, queue }
    }

    /// The CPU whose requests come here.
    pub(super) fn queue(&self) -> u16 {
        self.queue
    }

    /// Registers the entry over `payload`, and serves what comes until the session ends.
    ///
    /// # Errors
    /// The kernel took the entry out of service; what it was for comes to other entries.
    pub(super) async fn run(self, payload: Frame) -> io::Result<()> {
        let mut buffers = Buffers::new(payload);
        let mut command = register(self.queue, &mut buffers);
        loop {
            // SAFETY: the kernel touches the headers and the iovec, which are in the box, and the payload, whose memory
            // belongs to the box's frame and is lent to nobody (`put` has seen to that).
            let (result, back) = unsafe { self.device.command(command, buffers) }.await;
            buffers = back;
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => {}
                Err((Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
            let commit_id = buffers.headers.ring.commit_id;
            let unique = buffers.header().unique;
            let answer = self.answer(&mut buffers).await;
            let answer = buffers.recognise(answer);
            self.payload_back(&buffers).await;
            buffers.put(unique, &answer);
            command = commit(self.queue, commit_id);
        }
    }

    /// Waits until nobody uses the payload any more: usually it came back before the answer was there.
    async fn payload_back(&self, buffers: &Buffers) {
        while buffers.payload.is_out() && timeout(PAYLOAD_WARN_AFTER, buffers.payload.back()).await.is_err() {
            tracing::error!(queue = self.queue, "the payload of a request is still held after its answer");
        }
    }

    async fn answer(&self, buffers: &mut Buffers) -> Encoded {
        let arrived = forebay_shard::turn_began();
        let header = buffers.header();
        let request = |op: Op| Request { unique: request_id(&header), caller: caller(&header), arrived, op };
        match buffers.incoming(&header) {
            Incoming::Ask(mut op, form) => {
                if let Op::Read { len, into, .. } = &mut op {
                    *into = buffers.payload.lend((*len).min(buffers.payload.capacity()));
                }
                let mut request = request(op);
                match self.serving.answer_now(&mut request, form) {
                    Some(answer) => answer,
                    None => self.serving.answer(request, form).await,
                }
            }
            Incoming::Write(WriteAsk { len: 0, .. }) => nothing_written(),
            Incoming::Write(ask) => match buffers.payload(ask.len) {
                Some(data) => {
                    let WriteAsk { handle, offset, clear_privileges, .. } = ask;
                    let op = Op::Write { handle, offset, data, clear_privileges };
                    self.serving.answer(request(op), Form::Written).await
                }
                None => failure(Errno::IO),
            },
            Incoming::Refuse(errno) => failure(errno),
            // These come by /dev/fuse; the kernel expects its entry back all the same.
            Incoming::Interrupt(_) | Incoming::Nothing => failure(Errno::NOSYS),
        }
    }
}

impl Buffers {
    fn new(payload: Frame) -> Box<Self> {
        let iovec = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; 2];
        Box::new(Self { headers: RingHeaders::default(), payload: FixedFrame::new(payload), iovec })
    }

    fn header(&self) -> abi::InHeader {
        abi::InHeader::read_from_prefix(&self.headers.in_out).map(|(header, _)| header).unwrap_or_default()
    }

    /// What the kernel put here.
    fn incoming(&self, header: &abi::InHeader) -> Incoming {
        let head = &self.headers.op_in[..];
        if header.opcode == abi::opcode::WRITE {
            return decode(Message { header, head, tail: &[] });
        }
        match self.payload(self.headers.ring.payload_sz as usize) {
            Some(tail) => decode(Message { header, head, tail: &tail }),
            None => Incoming::Refuse(Errno::IO),
        }
    }

    /// The payload as a frame of `len` bytes; `None` unless the kernel put so many.
    fn payload(&self, len: usize) -> Option<Frame> {
        let fits = len == self.headers.ring.payload_sz as usize && len <= self.payload.capacity();
        if fits { self.payload.lend(len) } else { None }
    }

    /// Sees whether the bytes of an answer lie in the payload already, and takes the payload back then.
    fn recognise(&self, answer: Encoded) -> Answer {
        match answer {
            Encoded { error: 0, body: Body::Frame(frame) } if self.payload.is_lent_as(&frame) => {
                Answer::InPlace(frame.len())
            }
            elsewhere => Answer::Elsewhere(elsewhere),
        }
    }

    /// Puts the answer where the kernel looks for it. An answer that is longer than the payload is none.
    fn put(&mut self, unique: u64, answer: &Answer) {
        let (error, payload_len) = match answer {
            Answer::InPlace(len) => (0, *len),
            Answer::Elsewhere(answer) => self.copy(answer),
        };
        let len = size_of::<abi::OutHeader>() + payload_len;
        let header = abi::OutHeader { len: len as u32, error, unique };
        self.headers.in_out[..size_of::<abi::OutHeader>()].copy_from_slice(header.as_bytes());
        self.headers.ring.payload_sz = payload_len as u32;
    }

    /// Copies the bytes of an answer into the payload; says which error to answer with, and how many bytes.
    fn copy(&self, answer: &Encoded) -> (i32, usize) {
        let bytes = answer.body.bytes();
        match self.payload.lend(bytes.len().min(self.payload.capacity())) {
            _ if answer.error != 0 => (answer.error, 0),
            Some(mut place) if place.len() == bytes.len() => {
                place.copy_from_slice(bytes);
                (0, bytes.len())
            }
            _ => (-libc::EIO, 0),
        }
    }
}

/// An answer, and where its bytes are.
enum Answer {
    /// So many bytes at the start of the payload.
    InPlace(usize),
    Elsewhere(Encoded),
}

/// Makes the buffers known, and asks for a first request.
fn register(queue: u16, buffers: &mut Buffers) -> Command {
    let headers = std::ptr::from_mut(&mut buffers.headers);
    buffers.iovec = [
        libc::iovec { iov_base: headers.cast(), iov_len: size_of::<RingHeaders>() },
        libc::iovec { iov_base: buffers.payload.address().cast(), iov_len: buffers.payload.capacity() },
    ];
    let address = std::ptr::from_ref(&buffers.iovec).expose_provenance() as u64;
    Command { code: ring::REGISTER, data: command_data(queue, 0), address, len: ring::IOVEC_LEN }
}

/// Hands in the answer to a request, and asks for the next.
fn commit(queue: u16, commit_id: u64) -> Command {
    Command { code: ring::COMMIT_AND_FETCH, data: command_data(queue, commit_id), address: 0, len: 0 }
}

fn command_data(queue: u16, commit_id: u64) -> [u8; COMMAND_DATA_LEN] {
    let command = abi::RingCommand { flags: 0, commit_id, qid: queue, padding: [0; 6] };
    let mut data = [0; COMMAND_DATA_LEN];
    data[..size_of::<abi::RingCommand>()].copy_from_slice(command.as_bytes());
    data
}
