//! What is to be done: work lists with their deadlines, and the dossiers of a person.

use dinhba_core::ids::RecordId;
use dinhba_proto::v1;

use crate::client::{Client, records};
use crate::error::Error;
use crate::request::Context;

/// Which work list, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkQuery {
    /// Whose: a unit's code, its code and a day, or its id; empty for the caller's, or the site's if that is below it.
    pub unit: String,
    /// Also what is not that unit's to do yet: all of it and of the units below.
    pub all: bool,
    /// Only what should have been done before today.
    pub overdue: bool,
    /// Only one kind: a name of [`dinhba_core::work::Work::name`]; empty for all.
    pub kind: String,
}

impl Client {
    /// What is to be done, those things first that are due first: a page of at most 100; `after` is empty for the first. If its `next` is
    /// not empty there is more: ask again with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn work(&self, context: &Context, query: &WorkQuery, after: &[u8]) -> Result<v1::WorkReply, Error> {
        let WorkQuery { unit, all, overdue, kind } = query.clone();
        let message = v1::WorkRequest { context: context.wire(), unit, all, overdue, kind, after: after.to_vec() };
        self.read(message, |transport, request| async move { records(transport).work(request).await }).await
    }

    /// The dossiers about a person: a page, as of [`members`](Self::members).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dossiers(&self, context: &Context, person: RecordId, after: &[u8]) -> Result<v1::FindReply, Error> {
        let (person, after) = (person.to_string(), after.to_vec());
        let message = v1::DossiersOfRequest { context: context.wire(), person, after };
        self.read(message, |transport, request| async move { records(transport).dossiers_of(request).await }).await
    }
}
