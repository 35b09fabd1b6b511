//! Sessions of agents: with the record of the call that changed them, exactly once, and gone with the run's data.

use super::{Whole, exact, make};
use crate::ids::StepId;
use crate::ports::{
    Commit, EntryKey, JournalError, PageRequest, RunRow, SessionLine, SessionRow, SessionStatus, StepRow,
};
use crate::time::Timestamp;

/// A run whose steps 1 and 2 run under their first claim.
async fn running(store: &dyn Whole, id: &str) -> RunRow {
    let mut run = make::run(id, 1_000);
    let steps = vec![make::claimed(1, "h1"), make::claimed(2, "h1")];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

fn texts(lines: &[SessionLine]) -> Vec<(u32, &str)> {
    lines.iter().map(|line| (line.number, line.line.get())).collect()
}

async fn lines(store: &dyn Whole, row: &SessionRow) -> Vec<SessionLine> {
    store.session_lines(&row.run, &row.id, 0, 1_000).await.expect("answers")
}

pub(super) async fn a_session_grows_with_the_records_of_its_calls(store: &dyn Whole) {
    let run = running(store, "r").await;
    let entry = make::entry(&run, 1);
    let began = SessionRow { parent: Some("p".into()), ..make::session(&run, "s", 1_000) };
    let first = make::change(&began, 1, &["{\"n\":1}", "{\"n\":2}"]);
    store.append(&entry, 0, &make::record("0"), std::slice::from_ref(&first)).await.expect("appends");
    assert_eq!(store.session("s").await.expect("answers").as_ref(), Some(&began));
    let after = SessionRow {
        status: SessionStatus::Completed,
        turns: 1,
        lines: 3,
        bytes: 5_000_000_000,
        input_tokens: 6_000_000_000,
        output_tokens: 7,
        updated_at: Timestamp(3_000),
        ..began.clone()
    };
    // What it began with is not changed any more.
    let claimed = SessionRow { name: "other".into(), created_at: Timestamp(9), ..after.clone() };
    let second = make::change(&claimed, 3, &["{\"n\":3}"]);
    store.append(&entry, 1, &make::record("1"), &[second]).await.expect("appends");
    store.append(&entry, 0, &make::record("0"), &[first]).await.expect("is the same again");
    assert_eq!(store.session("s").await.expect("answers"), Some(after.clone()), "and changes nothing");
    let found = lines(store, &after).await;
    assert_eq!(texts(&found), [(1, "{\"n\":1}"), (2, "{\"n\":2}"), (3, "{\"n\":3}")]);
    let part = store.session_lines(&run.id, "s", 1, 1).await.expect("answers");
    assert_eq!(texts(&part), [(2, "{\"n\":2}")]);
    assert!(store.session_lines(&run.id, "s", 3, 10).await.expect("answers").is_empty());
    assert_eq!(store.session("nobody").await.expect("answers"), None);
    assert_eq!(store.latest_time().await.expect("answers"), Some(Timestamp(3_000)));
}

pub(super) async fn a_refused_record_adds_no_line(store: &dyn Whole) {
    let run = running(store, "r").await;
    let entry = make::entry(&run, 1);
    let row = make::session(&run, "s", 1_000);
    store.append(&entry, 0, &make::record("0"), &[make::change(&row, 1, &["1"])]).await.expect("appends");
    let later = make::change(&SessionRow { turns: 9, ..row.clone() }, 2, &["2"]);
    let stale = EntryKey { claim: 9, ..entry.clone() };
    let fenced = store.append(&stale, 1, &make::record("1"), std::slice::from_ref(&later)).await;
    assert!(matches!(fenced, Err(JournalError::Superseded)), "{fenced:?}");
    let gap = store.append(&entry, 2, &make::record("2"), std::slice::from_ref(&later)).await;
    assert!(matches!(gap, Err(JournalError::Store(_))), "{gap:?}");
    let over = [later.clone(), make::set_within(&make::scope(), "k", b"v", 0, 0)];
    let over = store.append(&entry, 1, &make::record("1"), &over).await;
    assert!(matches!(over, Err(JournalError::Quota(_))), "{over:?}");
    assert_eq!(store.session("s").await.expect("answers").as_ref(), Some(&row));
    assert_eq!(texts(&lines(store, &row).await), [(1, "1")]);
    // Whoever takes the step over goes on with the next line, and repeats none.
    let mut run = run;
    let taken = StepRow { claim: 2, ..make::claimed(1, "h2") };
    store.commit(Commit { steps: vec![taken], ..make::commit(&mut run, 1, 1_100) }).await.expect("commits");
    let next = EntryKey { claim: 2, ..entry.clone() };
    store.append(&next, 0, &make::record("0"), &[make::change(&row, 1, &["1"])]).await.expect("is the same again");
    store.append(&next, 1, &make::record("1"), &[later]).await.expect("appends");
    assert_eq!(texts(&lines(store, &row).await), [(1, "1"), (2, "2")]);
}

pub(super) async fn sessions_outlive_their_step_and_are_listed_as_they_began(store: &dyn Whole) {
    let mut run = running(store, "r").await;
    let other = running(store, "q").await;
    for (number, id) in (0..).zip(["c", "a", "b"]) {
        let change = make::change(&make::session(&run, id, 2_000 - number), 1, &["1"]);
        store
            .append(&make::entry(&run, 1), u32::try_from(number).expect("fits"), &make::record("0"), &[change])
            .await
            .expect("appends");
    }
    let second = SessionRow { step_id: StepId::new("s2"), ..make::session(&run, "d", 1_000) };
    store
        .append(&make::entry(&run, 2), 0, &make::record("0"), &[make::change(&second, 1, &[])])
        .await
        .expect("appends");
    let foreign = make::session(&other, "o", 1_000);
    store
        .append(&make::entry(&other, 1), 0, &make::record("0"), &[make::change(&foreign, 1, &["1"])])
        .await
        .expect("appends");
    let ended = StepRow { status: crate::status::StepStatus::Succeeded, ..make::step(1) };
    store.commit(Commit { steps: vec![ended], ..make::commit(&mut run, 1, 1_100) }).await.expect("commits");
    let list = async |step: Option<&StepId>| -> Vec<String> {
        let (mut ids, mut page) = (Vec::new(), make::page(2));
        loop {
            let found = store.sessions(&run.id, step, &page).await.expect("answers");
            ids.extend(found.items.iter().map(|session| session.id.to_string()));
            page.cursor = found.next;
            if page.cursor.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(list(None).await, ["c", "a", "b", "d"]);
    assert_eq!(list(Some(&StepId::new("s2"))).await, ["d"]);
    assert!(list(Some(&StepId::new("s9"))).await.is_empty());
    assert_eq!(lines(store, &make::session(&run, "a", 0)).await.len(), 1);
    assert!(
        store.session_lines(&other.id, "a", 0, 10).await.expect("answers").is_empty(),
        "another run has no such session"
    );
    let cursor = PageRequest { limit: 2, cursor: Some("zz".to_owned()) };
    assert!(store.sessions(&run.id, None, &cursor).await.is_err(), "no list gave that cursor");
}

pub(super) async fn lines_come_back_byte_for_byte(store: &dyn Whole) {
    let run = running(store, "r").await;
    let large = format!("\"{}\"", "é\\u0000\\n".repeat(100_000));
    let all: Vec<&str> = exact::AWKWARD.iter().copied().chain([large.as_str()]).collect();
    let row = SessionRow { name: "e\u{1}f \"é😀'".into(), ..make::session(&run, "s", 1_000) };
    store.append(&make::entry(&run, 1), 0, &make::record("0"), &[make::change(&row, 1, &all)]).await.expect("appends");
    let found = lines(store, &row).await;
    assert_eq!(texts(&found).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), all);
    assert_eq!(store.session("s").await.expect("answers"), Some(row));
}
