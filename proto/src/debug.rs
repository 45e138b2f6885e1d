//! `Debug` of what holds values of records, for logs and the panics of tests: names, ids and lengths. Values are personal
//! data, and so may be the keys of elements (the number of a card) and what a search asks for.

use std::fmt::{Debug, Formatter, Result};

use crate::peer::v1 as peer;
use crate::v1;

/// A text or bytes that are not shown.
struct Hidden(usize);

impl Debug for Hidden {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} B", self.0)
    }
}

/// Writes `Debug` for messages: of the fields before the semicolon their values, of the others their lengths.
macro_rules! secretive {
    ($($message:ty { $($shown:ident)* ; $($hidden:ident)* })+) => {$(
        impl Debug for $message {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(stringify!($hidden), &Hidden(self.$hidden.len())))*
                    .finish()
            }
        }
    )+};
}

secretive! {
    v1::EditRequest { context request shard decision authored_ms parts; grounds }
    v1::Part { record kind changes; valid_from }
    v1::FieldChange { field overwrites; element value }
    v1::Field { field values disputed; element }
    v1::FieldValue { dot received_ms; value }
    v1::Conflict { record shard field rule values since_ms; element }
    v1::FindRequest { context unit; number name birth_date mother after }
    v1::Entry { dot position site kind record request received_ms changes held_by set_aside; grounds valid_from }
    v1::JudgeRequest { context request shard record standing authored_ms; edit grounds }
    v1::Moved { field dots; element }
    v1::BackupReply {; frame }
    v1::LinkFrame { group compressed; message about }
    peer::App {; payload }
    peer::SnapshotChunk { transfer vote position bytes offset resumable; data }
    peer::ProposeRequest { wait_ms; command }
    peer::Proposed { index; answer }
}

impl Debug for v1::Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let details: Vec<(&str, Hidden)> =
            self.details.iter().map(|any| (any.type_url.as_str(), Hidden(any.value.len()))).collect();
        f.debug_struct("Refused")
            .field("code", &self.code)
            .field("message", &self.message)
            .field("details", &details)
            .finish()
    }
}

impl Debug for peer::AppendRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let entries: Vec<Hidden> = self.entries.iter().map(|entry| Hidden(entry.len())).collect();
        f.debug_struct("AppendRequest")
            .field("vote", &self.vote)
            .field("previous", &self.previous)
            .field("committed", &self.committed)
            .field("entries", &entries)
            .finish()
    }
}

impl Debug for peer::Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Entry").field("id", &self.id).field("payload", &self.payload).finish()
    }
}

impl Debug for peer::entry::Payload {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Blank(_) => f.write_str("Blank"),
            Self::Command(bytes) => write!(f, "Command({} B)", bytes.len()),
            Self::Membership(membership) => write!(f, "Membership({membership:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Nguyễn/Thị/Hòa";

    /// Every text and all bytes of a message, set to the secret.
    fn shown() -> Vec<String> {
        let (secret, bytes) = (|| SECRET.to_owned(), || SECRET.as_bytes().to_vec());
        let change = || v1::FieldChange { value: secret(), element: secret(), ..Default::default() };
        let value = || v1::FieldValue { value: secret(), ..Default::default() };
        let field = v1::Field { element: secret(), values: vec![value()], ..Default::default() };
        let record = v1::Record { fields: vec![field], ..Default::default() };
        let part = v1::Part { changes: vec![change()], ..Default::default() };
        let edit = v1::EditRequest { grounds: secret(), parts: vec![part], ..Default::default() };
        let entry = v1::Entry { grounds: secret(), changes: vec![change()], ..Default::default() };
        let conflict = v1::Conflict { element: secret(), values: vec![value()], ..Default::default() };
        let find = v1::FindRequest {
            number: secret(),
            name: secret(),
            birth_date: secret(),
            mother: secret(),
            ..Default::default()
        };
        let judge = v1::JudgeRequest { grounds: secret(), ..Default::default() };
        let moved = v1::Moved { element: secret(), ..Default::default() };
        let detail = prost_types::Any { type_url: "a.type/of.ours".to_owned(), value: bytes() };
        let refused = v1::Refused { code: 10, message: "stale".to_owned(), details: vec![detail] };
        let answered = v1::EditManyReply {
            outcome: Some(v1::edit_many_reply::Outcome::Refused(refused.clone())),
            ..Default::default()
        };
        let command = peer::Entry { payload: Some(peer::entry::Payload::Command(bytes())), ..Default::default() };
        let append = peer::AppendRequest { entries: vec![bytes()], ..Default::default() };
        vec![
            format!("{:?}", v1::GetReply { record: Some(record.clone()) }),
            format!("{:?}", v1::FindReply { records: vec![record.clone()], ..Default::default() }),
            format!("{:?}", v1::ExportReply { records: vec![record], watch_from: 1 }),
            format!("{edit:?}"),
            format!("{:?}", v1::HistoryReply { entries: vec![entry.clone()], next: 0 }),
            format!("{:?}", v1::WatchReply { entry: Some(entry) }),
            format!("{:?}", v1::ConflictsReply { conflicts: vec![conflict], ..Default::default() }),
            format!("{:?}", v1::Stale { fields: vec![moved], ..Default::default() }),
            format!("{find:?}"),
            format!("{judge:?}"),
            format!("{refused:?}"),
            format!("{answered:?}"),
            format!("{:?}", v1::LinkFrame { message: bytes(), ..Default::default() }),
            format!("{:?}", v1::BackupReply { frame: bytes() }),
            format!("{:?}", peer::App { payload: bytes() }),
            format!("{command:?}"),
            format!("{append:?}"),
            format!("{:?}", peer::SnapshotChunk { data: bytes(), ..Default::default() }),
            format!("{:?}", peer::ProposeRequest { command: bytes(), wait_ms: 1 }),
            format!("{:?}", peer::Proposed { answer: bytes(), index: 1 }),
        ]
    }

    #[test]
    fn what_is_debugged_shows_no_value() {
        let as_numbers = format!("{:?}", &SECRET.as_bytes()[..4]);
        let as_numbers = as_numbers.trim_matches(['[', ']']);
        for text in shown() {
            assert!(!text.contains("Hòa") && !text.contains("Th\\u") && !text.contains(as_numbers), "{text}");
            assert!(text.contains(&format!("{} B", SECRET.len())), "the length stands for it: {text}");
        }
    }
}
