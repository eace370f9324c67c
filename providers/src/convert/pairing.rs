//! Tool calls and their results in the order that every upstream demands: each call once, each answered directly after it.
//!
//! Clients send histories with repeated ids, results that come late or not at all, and results of calls that were cut away.
//! Any of these is refused by an upstream, so they are put right here, by the same rule every time, and recorded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::read::Losses;
use super::request::{Part, Role, ToolOutcome, ToolResult, Turn};

/// Results by the id of their call, with their order in the source.
type Answers = BTreeMap<String, (usize, ToolResult)>;

/// Makes ids unique, puts results after their calls, answers calls that have none, and turns results without a call into
/// text.
pub(crate) fn settle(mut turns: Vec<Turn>, losses: &mut Losses) -> Vec<Turn> {
    let mut answers = take_answers(&mut turns, losses);
    let mut settled: Vec<Turn> = Vec::with_capacity(turns.len());
    let mut due: Vec<Part> = Vec::new();
    for mut turn in turns {
        if turn.role == Role::User && !due.is_empty() {
            turn.parts.splice(0..0, due.drain(..));
        }
        flush(&mut due, &mut settled, &turn.path);
        due = answers_to(&turn, &mut answers, losses);
        if !turn.parts.is_empty() {
            settled.push(turn);
        }
    }
    let last_path = settled.last().map(|turn| turn.path.clone()).unwrap_or_default();
    flush(&mut due, &mut settled, &last_path);
    settled
}

fn flush(due: &mut Vec<Part>, settled: &mut Vec<Turn>, path: &str) {
    if !due.is_empty() {
        settled.push(Turn { role: Role::User, parts: std::mem::take(due), path: path.to_owned() });
    }
}

/// Takes every result that answers an earlier call out of its turn.
fn take_answers(turns: &mut [Turn], losses: &mut Losses) -> Answers {
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut open: BTreeMap<String, VecDeque<String>> = BTreeMap::new();
    let mut answers = Answers::new();
    for turn in turns {
        let parts = std::mem::take(&mut turn.parts);
        for part in parts {
            match part {
                Part::ToolCall(mut call) => {
                    let id = unique(&call.id, &mut used);
                    open.entry(std::mem::replace(&mut call.id, id.clone())).or_default().push_back(id);
                    turn.parts.push(Part::ToolCall(call));
                }
                Part::ToolResult(mut result) => match open.get_mut(&result.id).and_then(VecDeque::pop_front) {
                    Some(id) => {
                        result.id.clone_from(&id);
                        answers.insert(id, (answers.len(), result));
                    }
                    None => turn.parts.extend(orphan(result, losses)),
                },
                Part::Text(_)
                | Part::Refusal(_)
                | Part::Image(_)
                | Part::Document(_)
                | Part::Audio(_)
                | Part::Reasoning(_) => turn.parts.push(part),
            }
        }
    }
    answers
}

/// `id`, or `id_2`, `id_3`, … when an earlier call has it.
fn unique(id: &str, used: &mut BTreeSet<String>) -> String {
    let mut candidate = id.to_owned();
    let mut count = 1_u64;
    while !used.insert(candidate.clone()) {
        count += 1;
        candidate = format!("{id}_{count}");
    }
    candidate
}

fn orphan(result: ToolResult, losses: &mut Losses) -> Vec<Part> {
    losses.add(&*result.path, "the result has no call before it and is sent as text");
    let mut parts = vec![Part::Text(format!("[result of tool call {}]", result.id))];
    parts.extend(result.content);
    parts
}

fn answers_to(turn: &Turn, answers: &mut Answers, losses: &mut Losses) -> Vec<Part> {
    let mut found: Vec<(usize, ToolResult)> = Vec::new();
    for part in &turn.parts {
        let Part::ToolCall(call) = part else { continue };
        found.push(answers.remove(&call.id).unwrap_or_else(|| {
            losses.add(&*call.path, "the call has no result: one that says so was added");
            let content = vec![Part::Text("The tool call was interrupted and has no result.".to_owned())];
            let (id, path) = (call.id.clone(), call.path.clone());
            (usize::MAX, ToolResult { id, content, outcome: ToolOutcome::Failed, path })
        }));
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, result)| Part::ToolResult(result)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::{ToolCall, ToolInput};
    use super::*;

    fn call(id: &str) -> Part {
        let input = ToolInput::Json("{}".to_owned());
        Part::ToolCall(ToolCall { id: id.to_owned(), name: "f".to_owned(), input, path: format!("call {id}") })
    }

    fn result(id: &str, text: &str) -> Part {
        let content = vec![Part::Text(text.to_owned())];
        let outcome = ToolOutcome::Done;
        Part::ToolResult(ToolResult { id: id.to_owned(), content, outcome, path: String::new() })
    }

    fn turn(role: Role, parts: Vec<Part>) -> Turn {
        Turn { role, parts, path: String::new() }
    }

    /// One word for each part, one line for each turn.
    fn shape(turns: Vec<Turn>) -> (Vec<String>, usize) {
        let mut losses = Losses::default();
        let line = |turn: &Turn| {
            let words = turn.parts.iter().map(|part| match part {
                Part::ToolCall(call) => format!("call:{}", call.id),
                Part::ToolResult(result) => match &result.content[0] {
                    Part::Text(text) if text.len() < 9 => format!("result:{}={text}", result.id),
                    Part::Text(_)
                    | Part::Refusal(_)
                    | Part::Image(_)
                    | Part::Document(_)
                    | Part::Audio(_)
                    | Part::Reasoning(_)
                    | Part::ToolCall(_)
                    | Part::ToolResult(_) => format!("error:{}", result.id),
                },
                Part::Text(text) => text.clone(),
                Part::Refusal(_) | Part::Image(_) | Part::Document(_) | Part::Audio(_) | Part::Reasoning(_) => {
                    "other".to_owned()
                }
            });
            words.collect::<Vec<_>>().join(" ")
        };
        let settled = settle(turns, &mut losses);
        (settled.iter().map(line).collect(), losses.0.len())
    }

    #[test]
    fn results_follow_their_calls_in_the_order_they_had_before_any_text() {
        let text = || Part::Text("go on".to_owned());
        let (lines, losses) = shape(vec![
            turn(Role::Assistant, vec![call("a"), call("b")]),
            turn(Role::User, vec![text(), result("b", "2")]),
            turn(Role::User, vec![result("a", "1")]),
        ]);
        assert_eq!(lines, ["call:a call:b", "result:b=2 result:a=1 go on"]);
        assert_eq!(losses, 0);
    }

    #[test]
    fn a_call_without_a_result_is_answered_and_a_result_without_a_call_becomes_text() {
        let (lines, losses) =
            shape(vec![turn(Role::User, vec![result("x", "old")]), turn(Role::Assistant, vec![call("a")])]);
        assert_eq!(lines, ["[result of tool call x] old", "call:a", "error:a"]);
        assert_eq!(losses, 2);
    }

    #[test]
    fn repeated_ids_become_unique_and_keep_their_own_results() {
        let (lines, _) = shape(vec![
            turn(Role::Assistant, vec![call("c"), call("c")]),
            turn(Role::User, vec![result("c", "1"), result("c", "2")]),
            turn(Role::Assistant, vec![call("c")]),
            turn(Role::User, vec![result("c", "3")]),
        ]);
        assert_eq!(lines, ["call:c call:c_2", "result:c=1 result:c_2=2", "call:c_3", "result:c_3=3"]);
    }

    #[test]
    fn a_system_message_between_a_call_and_its_result_comes_after_both() {
        let (lines, _) = shape(vec![
            turn(Role::Assistant, vec![call("a")]),
            turn(Role::System, vec![Part::Text("note".to_owned())]),
            turn(Role::User, vec![result("a", "1")]),
        ]);
        assert_eq!(lines, ["call:a", "result:a=1", "note"]);
    }
}
