//! Marks: where a page ended, as its caller brings it back to go on. A mark is good for the same question only, so that nobody walks
//! with it where he did not ask, and at any node of the site, unless the question names one (`status`).

use dinhba_core::encoding::Wire;
use dinhba_core::search::{Term, place_proof};
use tonic::Status;

use super::answer::wrong as wrong_field;

/// A mark on its way; `asked` is a hash of the question.
pub(super) fn seal(mark: &impl Wire, asked: &Term, index_key: &[u8; 32]) -> Vec<u8> {
    let mark = mark.to_bytes();
    let proof = place_proof(index_key, asked, &mark);
    [mark.as_slice(), &proof].concat()
}

/// Reads what [`seal`] wrote for the same question; nothing for an empty one.
pub(super) fn open<Mark: Wire>(sealed: &[u8], asked: &Term, index_key: &[u8; 32]) -> Result<Option<Mark>, Status> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let wrong =
        || wrong_field("after", "after: send what the page before gave as `next`, with all else as it was asked");
    let (mark, proof) = sealed.split_last_chunk::<16>().ok_or_else(wrong)?;
    if place_proof(index_key, asked, mark) != *proof {
        return Err(wrong());
    }
    Mark::from_bytes(mark).map(Some).map_err(|_| wrong())
}

/// The hash of a question that is no search: what is asked, and about what.
pub(super) fn asked(what: &str, about: &str) -> Term {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(format!("{what} {about}").as_bytes()).as_bytes()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [3; 32];

    #[test]
    fn a_mark_is_good_for_its_question_alone() {
        let (question, other) = (asked("conflicts", "h-1"), asked("conflicts", ""));
        let sealed = seal(&7_u64, &question, &KEY);
        let open = |sealed: &[u8], asked: &Term, key: &[u8; 32]| open::<u64>(sealed, asked, key);
        assert_eq!(open(&sealed, &question, &KEY).unwrap(), Some(7));
        assert_eq!(open(&[], &question, &KEY).unwrap(), None);
        assert!(open(&sealed, &other, &KEY).is_err(), "another question");
        assert!(open(&sealed, &question, &[4; 32]).is_err(), "another site");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &question, &KEY).is_err());
            assert!(open(&sealed[..at], &question, &KEY).is_err() || at == 0);
        }
    }
}
