//! Stories about nodes that answer late, wrongly or not at all, and edits that are applied once all the same.

use dinhba_core::schema::RecordKind;
use futures::StreamExt;
use tonic::Code;

use super::*;
use crate::streams::Answered;
use crate::testing::{Fault, Memory, SHARD, context};

/// The same person under another name, over what was read.
fn renamed(read: &v1::Record, name: &str) -> EditBuilder {
    let mut edit = EditBuilder::new(&context());
    let part = edit.change(read);
    edit.set(part, "name", "", name);
    edit
}

fn birth() -> EditBuilder {
    let mut edit = EditBuilder::new(&context());
    let child = edit.create(RecordKind::Person);
    edit.set(child, "name", "", "Nguyễn/Thị/Hòa");
    edit
}

#[tokio::test]
async fn an_edit_whose_answer_is_lost_is_applied_once() {
    for faults in [
        vec![Fault::CutBefore],
        vec![Fault::CutAfter],
        vec![Fault::CutAfter, Fault::CutBefore, Fault::CutAfter],
        vec![Fault::Say(Code::Unavailable)],
        vec![Fault::Say(Code::Unknown), Fault::Say(Code::DeadlineExceeded)],
        vec![Fault::Silence],
        vec![Fault::Say(Code::ResourceExhausted), Fault::CutAfter],
    ] {
        let memory = Memory::default();
        let client = memory.client(&["a"]);
        let was_applied = faults.iter().any(|fault| matches!(fault, Fault::CutAfter | Fault::Silence));
        memory.faults("a", faults.clone());
        let session = client.session();
        let accepted = client.edit(&session, &birth()).await.unwrap();
        assert_eq!(memory.register().applied.len(), 1, "{faults:?}");
        assert_eq!(accepted.replayed, was_applied, "{faults:?}");
        let expected = RequestId { session: session.id(), counter: 1 };
        assert_eq!((accepted.request, &*accepted.records), (expected, &[RecordId::derive(expected, 0)][..]));
    }
}

#[tokio::test]
async fn another_node_of_the_site_takes_over_and_is_kept() {
    let memory = Memory::default();
    memory.register().down.push("a".into());
    memory.faults("b", [Fault::Say(Code::Unavailable)]);
    let client = memory.client(&["a", "b", "c"]);
    client.edit(&client.session(), &birth()).await.unwrap();
    client.edit(&client.session(), &birth()).await.unwrap();
    assert_eq!(memory.register().calls, ["b", "c", "c"]);
}

#[tokio::test]
async fn of_more_calls_than_a_site_serves_each_is_refused_before_it_is_sent() {
    let memory = Memory::default();
    memory.faults("a", vec![Fault::Silence; CALLS_MAX]);
    let client = memory.client(&["a"]);
    // Time for all of them to be sent, on a busy machine too.
    let (attempt, deadline) = (Duration::from_secs(2), Duration::from_secs(8));
    let client = client.with_limits(Limits { attempt, deadline, ..client.limits() });
    let session = client.session();
    let call = || async { client.edit(&session, &birth()).await };
    let under_way = futures::future::join_all((0..CALLS_MAX).map(|_| call()));
    let one_more = async {
        while memory.register().calls.len() < CALLS_MAX {
            tokio::task::yield_now().await;
        }
        call().await
    };
    let (mut under_way, mut one_more) = (std::pin::pin!(under_way), std::pin::pin!(one_more));
    let error = tokio::select! {
        _ = &mut under_way => panic!("nobody answers"),
        outcome = &mut one_more => outcome.unwrap_err(),
    };
    assert!(matches!(&error, Error::Unreachable { text, .. } if text.contains("under way")), "{error}");
    assert_eq!(memory.register().calls.len(), CALLS_MAX);
    // Those that were sent are asked for again, and then there is room.
    assert!(under_way.await.iter().all(Result::is_ok));
    call().await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_too_busy_is_not_dialed_again() {
    let memory = Memory::default();
    memory.faults("a", [Fault::Say(Code::ResourceExhausted), Fault::Say(Code::Unavailable)]);
    let client = memory.client(&["a"]);
    client.edit(&client.session(), &birth()).await.unwrap();
    assert_eq!(memory.register().dials, 2, "the one at the start, and one after the node had no leader");
}

#[tokio::test]
async fn what_a_node_says_of_when_to_ask_again_is_heeded() {
    let after = Duration::from_millis(200);
    let timed = async |nodes: &[&str], fault: Fault| {
        let memory = Memory::default();
        memory.faults("a", [fault]);
        let client = memory.client(nodes);
        let began = std::time::Instant::now();
        client.edit(&client.session(), &birth()).await.unwrap();
        began.elapsed()
    };
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Unknown] {
        assert!(timed(&["a"], Fault::Later(code, after)).await >= after, "{code:?}");
    }
    // Another node may take at once what this one does not; what is too much for the site is so everywhere.
    let long = Duration::from_millis(500);
    assert!(timed(&["a", "b"], Fault::Later(Code::Unavailable, long)).await < long);
    assert!(timed(&["a", "b"], Fault::Later(Code::ResourceExhausted, after)).await >= after);
}

#[tokio::test]
async fn a_stream_of_edits_waits_as_long_as_a_node_says() {
    let (memory, after) = (Memory::default(), Duration::from_millis(200));
    memory.faults("a", [Fault::Later(Code::ResourceExhausted, after)]);
    let client = memory.client(&["a", "b"]);
    let began = std::time::Instant::now();
    let answers: Vec<_> = client.edit_many(futures::stream::iter(births(&client.session(), 3))).collect().await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(began.elapsed() >= after, "{:?}", began.elapsed());
    memory.register().busy = Some(after);
    let began = std::time::Instant::now();
    let answers: Vec<_> = client.edit_many(futures::stream::iter(births(&client.session(), 3))).collect().await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(began.elapsed() >= after, "of an answer in the stream: {:?}", began.elapsed());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_own_deadline() {
    let memory = Memory::default();
    memory.faults("a", vec![Fault::Later(Code::ResourceExhausted, Duration::from_secs(3600)); 100]);
    let client = memory.client(&["a"]);
    let began = std::time::Instant::now();
    let error = client.edit(&client.session(), &birth()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(memory.register().calls.len(), 1);
}

#[tokio::test]
async fn a_definite_refusal_is_not_repeated() {
    let memory = Memory::default();
    memory.faults("a", [Fault::Say(Code::PermissionDenied)]);
    let client = memory.client(&["a", "b"]);
    let error = client.edit(&client.session(), &birth()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::PermissionDenied, .. }), "{error}");
    assert_eq!(memory.register().calls, ["a"]);
}

#[tokio::test]
async fn nothing_accepted_and_not_known_are_told_apart() {
    let memory = Memory::default();
    memory.faults("a", vec![Fault::Say(Code::Unavailable); 1000]);
    let client = memory.client(&["a"]);
    let error = client.edit(&client.session(), &birth()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");

    let mut faults = vec![Fault::CutAfter];
    faults.extend(vec![Fault::Say(Code::Unavailable); 1000]);
    memory.faults("a", faults);
    let session = client.session();
    let error = client.edit(&session, &birth()).await.unwrap_err();
    let request = RequestId { session: session.id(), counter: 1 };
    assert!(matches!(error, Error::OutcomeUnknown { request: Some(unknown), .. } if unknown == request), "{error}");
    // The same request, later: it had been accepted.
    memory.faults("a", []);
    assert!(client.edit_as(request, &birth()).await.unwrap().replayed);
    assert_eq!(memory.register().applied.len(), 1);

    memory.register().down.push("b".into());
    let client = memory.client(&["b"]);
    let error = client.get(&context(), RecordId([1; 16])).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    let error = memory.client(&[]).get(&context(), RecordId([1; 16])).await.unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
}

#[tokio::test]
async fn an_administrative_call_that_breaks_points_to_the_status() {
    let memory = Memory::default();
    memory.faults("a", vec![Fault::CutAfter; 1000]);
    let error = memory.client(&["a"]).snapshot(&context()).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { request: None, .. }), "{error}");
}

#[tokio::test]
async fn an_edit_of_a_record_that_moved_on_is_stale() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    let session = client.session();
    let id = client.edit(&session, &birth()).await.unwrap().records[0];
    let read = client.get(&context(), id).await.unwrap();
    let rename = |name: &str| renamed(&read, name);
    client.edit(&session, &rename("Nguyễn/Thị/Hoa")).await.unwrap();
    let error = client.edit(&session, &rename("Nguyễn/Thị/Hồng")).await.unwrap_err();
    let Error::Stale(stale) = error else { panic!("{error}") };
    let now = client.get(&context(), id).await.unwrap();
    let dots: Vec<v1::Dot> = now.fields[0].values.iter().filter_map(|value| value.dot.clone()).collect();
    assert_eq!((stale.fields[0].field.as_str(), &stale.fields[0].dots), ("name", &dots));
}

#[tokio::test]
async fn after_an_attempt_of_which_nothing_is_known_a_refusal_is_not_believed() {
    let refusals = |code| vec![Fault::Say(code); 1000];
    let outcome = async |first: &[Fault], then: Vec<Fault>, again: bool| {
        let memory = Memory::default();
        memory.faults("a", [first, &then].concat());
        let client = memory.client(&["a"]);
        let request = client.session().next();
        let sent =
            if again { client.edit_again(request, &birth()).await } else { client.edit_as(request, &birth()).await };
        let found = memory.register().applied.len();
        (sent, found)
    };
    // Nothing came before: it is the answer.
    let (sent, _) = outcome(&[], refusals(Code::NotFound), false).await;
    assert!(matches!(sent, Err(Error::Refused { code: Code::NotFound, .. })), "{sent:?}");
    // The first may be on its way: only what depends on nothing but the request is the last word.
    for first in
        [Fault::CutBefore, Fault::Say(Code::Unknown), Fault::Fake(Code::Unavailable), Fault::Fake(Code::Aborted)]
    {
        let (sent, _) = outcome(&[first], refusals(Code::NotFound), false).await;
        assert!(
            matches!(&sent, Err(Error::OutcomeUnknown { text, .. }) if text.contains("refused")),
            "{first:?}: {sent:?}"
        );
        let (sent, _) = outcome(&[first], refusals(Code::PermissionDenied), false).await;
        assert!(matches!(sent, Err(Error::Refused { code: Code::PermissionDenied, .. })), "{first:?}: {sent:?}");
    }
    // It was: what comes late is found.
    let (sent, found) = outcome(&[Fault::CutBefore, Fault::Say(Code::NotFound)], Vec::new(), false).await;
    assert!(sent.is_ok() && found == 1, "{sent:?}");
    // Sent before by another call.
    let (sent, _) = outcome(&[], refusals(Code::NotFound), true).await;
    assert!(matches!(sent, Err(Error::OutcomeUnknown { .. })), "{sent:?}");
    let (sent, _) = outcome(&[], vec![Fault::Say(Code::Unavailable); 1000], true).await;
    assert!(matches!(sent, Err(Error::OutcomeUnknown { .. })), "{sent:?}");
}

#[tokio::test]
async fn nobody_but_a_node_can_say_that_nothing_was_accepted() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Cancelled, Code::NotFound, Code::InvalidArgument] {
        let memory = Memory::default();
        memory.faults("a", vec![Fault::Fake(code); 1000]);
        let client = memory.client(&["a"]);
        let error = client.edit(&client.session(), &birth()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{code:?}: {error}");
    }
}

#[tokio::test]
async fn an_edit_of_a_stream_that_was_sent_twice_and_refused_then_is_left_open() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    let session = client.session();
    let id = client.edit(&session, &birth()).await.unwrap().records[0];
    let read = client.get(&context(), id).await.unwrap();
    let rename = |name: &str| renamed(&read, name).build(session.next(), 0);
    client.edit_many(futures::stream::iter([rename("Nguyễn/Thị/Hoa")])).collect::<Vec<_>>().await;
    let stale = || [rename("Nguyễn/Thị/Hồng"), birth().build(session.next(), 0)];
    let answers = |stream: Vec<Result<Answered, Error>>| {
        stream.into_iter().map(|answer| answer.unwrap().outcome).collect::<Vec<_>>()
    };
    let told = answers(client.edit_many(futures::stream::iter(stale())).collect().await);
    assert!(matches!(told[..], [Err(Error::Stale(_)), Ok(_)]), "{told:?}");
    memory.faults("a", [Fault::CutStream(0)]);
    let told = answers(client.edit_many(futures::stream::iter(stale())).collect().await);
    assert!(matches!(told[..], [Err(Error::OutcomeUnknown { request: Some(_), .. }), Ok(_)]), "{told:?}");
}

fn births(session: &Session, count: usize) -> Vec<v1::EditRequest> {
    (0..count).map(|_| birth().build(session.next(), 0)).collect()
}

#[tokio::test]
async fn a_stream_of_edits_survives_breaks_and_applies_each_once() {
    let memory = Memory::default();
    memory.register().down.push("c".into());
    memory.faults("a", [Fault::CutStream(50), Fault::CutBefore, Fault::CutStream(0), Fault::Say(Code::Unavailable)]);
    memory.faults("b", [Fault::CutStream(3), Fault::CutAfter, Fault::Silence]);
    let client = memory.client(&["a", "b", "c"]);
    let session = client.session();
    let edits = births(&session, 400);
    let answers: Vec<_> = client.edit_many(futures::stream::iter(edits)).collect().await;
    let counters: Vec<u64> = answers
        .iter()
        .map(|answer| {
            let answer = answer.as_ref().unwrap();
            let accepted = answer.outcome.as_ref().unwrap();
            assert!(answer.resent || !accepted.replayed);
            answer.request.counter
        })
        .collect();
    assert_eq!(counters, (1..=400).collect::<Vec<_>>());
    assert_eq!(memory.register().applied.len(), 400);
    assert!(answers.iter().any(|answer| answer.as_ref().unwrap().outcome.as_ref().unwrap().replayed));
}

#[tokio::test]
async fn a_refused_edit_of_a_stream_does_not_stop_the_others() {
    let memory = Memory::default();
    memory.register().poison = Some("bad".into());
    let client = memory.client(&["a"]);
    let session = client.session();
    let mut edits = births(&session, 5);
    edits[2].parts[0].changes[0].value = "bad".into();
    let answers: Vec<_> = client.edit_many(futures::stream::iter(edits)).collect().await;
    let refused: Vec<bool> = answers.iter().map(|answer| answer.as_ref().unwrap().outcome.is_err()).collect();
    assert_eq!(refused, [false, false, true, false, false]);
    assert_eq!(memory.register().applied.len(), 4);
}

#[tokio::test]
async fn a_stream_that_reaches_nobody_ends_with_what_is_known() {
    let memory = Memory::default();
    memory.register().down.push("a".into());
    let client = memory.client(&["a"]);
    let session = client.session();
    let answers: Vec<_> = client.edit_many(futures::stream::iter(births(&session, 3))).collect().await;
    assert!(matches!(answers[..], [Err(Error::Unreachable { .. })]), "{answers:?}");

    memory.register().down.clear();
    memory.faults("a", vec![Fault::Say(Code::Unavailable); 1000]);
    let answers: Vec<_> = client.edit_many(futures::stream::iter(births(&session, 3))).collect().await;
    assert!(matches!(answers[..], [Err(Error::Unreachable { .. })]), "{answers:?}");

    let memory = Memory::default();
    memory.faults("a", vec![Fault::CutStream(0); 1000]);
    let client = memory.client(&["a"]);
    let answers: Vec<_> = client.edit_many(futures::stream::iter(births(&session, 3))).collect().await;
    assert!(matches!(answers[..], [Err(Error::OutcomeUnknown { request: Some(_), .. })]), "{answers:?}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    let session = client.session();
    for _ in 0..7 {
        client.edit(&session, &birth()).await.unwrap();
    }
    memory.faults("a", [Fault::CutStream(3), Fault::Say(Code::Unavailable), Fault::CutStream(2)]);
    let entries: Vec<_> = client.watch(&context(), Some(SHARD), 1).take(7).collect().await;
    let positions: Vec<u64> = entries.into_iter().map(|entry| entry.unwrap().position).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_watch_may_be_quiet_for_longer_than_the_deadline() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    client.edit(&client.session(), &birth()).await.unwrap();
    memory.faults("a", [Fault::QuietStream, Fault::CutBefore]);
    let entries: Vec<_> = client.watch(&context(), Some(SHARD), 1).take(1).collect().await;
    assert_eq!(entries[0].as_ref().unwrap().position, 1);
}

#[tokio::test]
async fn an_extract_brings_every_record_and_says_if_it_is_cut() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    let session = client.session();
    for _ in 0..5 {
        client.edit(&session, &birth()).await.unwrap();
    }
    memory.faults("a", [Fault::Say(Code::Unavailable)]);
    let records: Vec<_> = client.export(&context(), None).collect().await;
    let found: usize = records.iter().map(|page| page.as_ref().unwrap().records.len()).sum();
    assert_eq!((found, records[0].as_ref().unwrap().watch_from), (5, 6));
    memory.faults("a", [Fault::Say(Code::PermissionDenied)]);
    let records: Vec<_> = client.export(&context(), None).collect().await;
    assert!(matches!(records[..], [Err(Error::Refused { code: Code::PermissionDenied, .. })]));
}

#[tokio::test]
async fn who_waits_until_a_tier_holds_a_request_asks_again_until_it_does_or_patience_ends() {
    let memory = Memory::default();
    let client = memory.client(&["a"]);
    let accepted = client.edit(&client.session(), &birth()).await.unwrap();
    let now = client.held(accepted.request, None).await.unwrap();
    assert!(!now.reached && now.sites.len() == 1, "{now:?}");
    let hour = Duration::from_secs(3_600);
    let reply = client.wait_until_held(accepted.request, None, Tier::District, hour).await.unwrap();
    assert!(reply.reached && reply.sites.len() == 2, "{reply:?}");
    let reply = client.wait_until_held(accepted.request, None, Tier::Central, Duration::ZERO).await.unwrap();
    assert!(!reply.reached, "{reply:?}");
}
