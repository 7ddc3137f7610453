//! Makes a failing run shorter: leaves out ever smaller pieces for as long as it still fails, in whatever way.

use std::time::{Duration, Instant};

use super::op::Op;
use super::run::Failure;

/// The shortest failing run found before `limit` is over, with its failure.
pub(crate) fn shrink(
    mut ops: Vec<Op>,
    mut failure: Failure,
    limit: Duration,
    mut run: impl FnMut(&[Op]) -> Result<(), Failure>,
) -> (Vec<Op>, Failure) {
    let end = Instant::now() + limit;
    ops.truncate(failure.at + 1);
    let mut piece = ops.len().div_ceil(2);
    while piece > 0 {
        let mut start = 0;
        let mut shorter = false;
        while start < ops.len() {
            if Instant::now() >= end {
                return (ops, failure);
            }
            let mut fewer = ops.clone();
            fewer.drain(start..(start + piece).min(ops.len()));
            match run(&fewer) {
                Err(other) => {
                    fewer.truncate(other.at + 1);
                    (ops, failure, shorter) = (fewer, other, true);
                }
                Ok(()) => start += piece,
            }
        }
        if !shorter || piece > 1 {
            piece /= 2;
        }
    }
    (ops, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_left() {
        let op = |slot| Op::Close { slot };
        let fails = |ops: &[Op]| {
            let first = ops.iter().position(|one| *one == op(37));
            let then = first
                .and_then(|first| ops[first..].iter().position(|one| *one == op(61)).map(|at| first + at));
            then.map_or(Ok(()), |at| Err(Failure { at, what: String::new() }))
        };
        let ops: Vec<Op> = (0..100).map(op).collect();
        let failure = fails(&ops).unwrap_err();
        let (ops, failure) = shrink(ops, failure, Duration::from_secs(10), fails);
        assert_eq!((ops, failure.at), (vec![op(37), op(61)], 1));
    }
}
