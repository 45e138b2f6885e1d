//! What a site counts: events by day, what is in which state, how good the records are, and where the personal numbers are.

use dinhba_core::date::Date;
use dinhba_core::number::{PersonNumber, Series};
use dinhba_proto::v1;

use crate::client::{Client, records};
use crate::error::Error;
use crate::request::Context;

impl Client {
    /// How many of each event there were in a unit (code, code and day, or id; empty for all that the caller may see) and those
    /// below it, from one day to another, both included.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn figures(
        &self,
        context: &Context,
        unit: &str,
        (from, to): (Date, Date),
    ) -> Result<Vec<v1::UnitFigures>, Error> {
        let (unit, from, to) = (unit.to_owned(), from.to_string(), to.to_string());
        let message = v1::FiguresRequest { context: context.wire(), unit, from, to };
        let reply = self.read(message, |transport, request| async move { records(transport).figures(request).await });
        Ok(reply.await?.units)
    }

    /// How good the records are of a unit (code, code and day, or id; empty for all that the caller may see) and those below it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn quality(&self, context: &Context, unit: &str) -> Result<Vec<v1::UnitQuality>, Error> {
        let message = v1::QualityRequest { context: context.wire(), unit: unit.to_owned() };
        let reply = self.read(message, |transport, request| async move { records(transport).quality(request).await });
        Ok(reply.await?.units)
    }

    /// How many cards, accounts and steps of dossiers are in which state in a unit (code, code and day, or id; empty for all that the caller
    /// may see) and those below it; of steps that are done, those that were from one day to another, both included.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stocks(
        &self,
        context: &Context,
        unit: &str,
        (from, to): (Date, Date),
    ) -> Result<Vec<v1::UnitStocks>, Error> {
        let (unit, from, to) = (unit.to_owned(), from.to_string(), to.to_string());
        let message = v1::StocksRequest { context: context.wire(), unit, from, to };
        let reply = self.read(message, |transport, request| async move { records(transport).stocks(request).await });
        Ok(reply.await?.units)
    }

    /// The ledger of personal numbers of a unit (code, code and day, or id; empty for the site's own) and those below it: of one series, or
    /// of all of which blocks were granted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn numbers(
        &self,
        context: &Context,
        unit: &str,
        series: Option<Series>,
    ) -> Result<v1::NumbersReply, Error> {
        let series = series.map(|series| series.to_string()).unwrap_or_default();
        let message =
            v1::NumbersRequest { context: context.wire(), unit: unit.to_owned(), series, number: String::new() };
        self.read(message, |transport, request| async move { records(transport).numbers(request).await }).await
    }

    /// What became of one personal number: who granted it to whom, and whether it was assigned. Whose it is, [`find`](Self::find) tells.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn way_of_number(&self, context: &Context, number: PersonNumber) -> Result<v1::NumberWay, Error> {
        let (context, number) = (context.wire(), number.to_string());
        let message = v1::NumbersRequest { context, number, ..v1::NumbersRequest::default() };
        let reply = self.read(message, |transport, request| async move { records(transport).numbers(request).await });
        reply.await?.way.ok_or(Error::Protocol("an answer without the number that was asked for"))
    }
}
