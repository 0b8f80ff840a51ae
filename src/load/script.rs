//! A scenario made ready to run: names resolved to indices, templates parsed, users dealt to journeys.

use std::collections::BTreeMap;

use super::LoadError;
use super::template::{Hole, Template};
use crate::model::{Degraded, Method, Name, Poll, Reads, Scenario, Step, Store, Stores};

/// A whole scenario. `steps` holds the steps of all journeys, one after the other.
#[derive(Debug)]
pub struct Script {
    pub prepare: Vec<ScriptStep>,
    pub steps: Vec<ScriptStep>,
    /// First step and number of steps, and the sum of weights up to and with this journey.
    journeys: Vec<JourneySpan>,
    /// Number of the variables that a user may hold.
    pub own_count: usize,
    /// Number of the lists that `prepare` fills.
    pub shared_count: usize,
    pub timeout_us: u64,
    pub think_mean_us: f64,
}

#[derive(Debug, Clone, Copy)]
struct JourneySpan {
    first: u32,
    count: u32,
    weight_end: u64,
}

#[derive(Debug)]
pub struct ScriptStep {
    /// `journey.step`, as in the operations.
    pub name: Name,
    pub method: Method,
    pub path: Template,
    pub body: Option<Template>,
    pub headers: Vec<(String, Template)>,
    pub poll: Option<Poll>,
    pub writes: Stores,
    pub reads: Option<ScriptReads>,
    pub accept: Vec<u16>,
    /// Variable (of the user, or shared in `prepare`) and JSON pointer.
    pub extract: Vec<(u16, String)>,
    pub assert: Vec<(String, serde_json::Value)>,
    pub degraded: Option<Degraded>,
    /// Of the user, that path, headers and body need.
    pub needs: Vec<u16>,
    pub repeat: u32,
}

/// What the answer says of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptReads {
    pub store: Store,
    pub what: ReadWhat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadWhat {
    /// The object that the write made which gave this variable; and what a 404 holds that says that it is not there.
    Object { hole: Hole, missing: Option<String> },
    /// The user's list, at one pointer; all of it unless there is something at the other.
    List { at: String, more: Option<String> },
}

impl ScriptStep {
    /// Where a user's list is in the answer, and what only a part of it has.
    #[must_use]
    pub fn list(&self) -> Option<(&str, Option<&str>)> {
        match &self.reads.as_ref()?.what {
            ReadWhat::List { at, more } => Some((at, more.as_deref())),
            ReadWhat::Object { .. } => None,
        }
    }

    /// The variable whose write made what is read.
    #[must_use]
    pub fn reads_object(&self) -> Option<Hole> {
        match &self.reads.as_ref()?.what {
            ReadWhat::Object { hole, .. } => Some(*hole),
            ReadWhat::List { .. } => None,
        }
    }

    /// Whether an answer says that the object which is read is not there.
    #[must_use]
    pub fn is_missing(&self, status: u16, body: &[u8]) -> bool {
        let Some(ScriptReads { what: ReadWhat::Object { missing, .. }, .. }) = &self.reads else {
            return false;
        };
        let said = |text: &String| String::from_utf8_lossy(body).contains(text.as_str());
        status == 404 && missing.as_ref().is_none_or(said)
    }

    /// Whether the status is what the step hopes for.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        if self.accept.is_empty() { (200..300).contains(&status) } else { self.accept.contains(&status) }
    }

    /// Where the body says that the answer was given with less than usual.
    #[must_use]
    pub fn degraded_pointer(&self) -> Option<&str> {
        self.degraded.as_ref()?.pointer.as_deref()
    }

    /// Whether the answer's body decides anything.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        let asks = !self.extract.is_empty() || !self.assert.is_empty();
        asks || self.list().is_some() || self.degraded_pointer().is_some()
    }
}

/// Names of one scope, in the order of their first extraction, with the stores that hold what they name.
#[derive(Default)]
struct Names(BTreeMap<String, (u16, Stores)>);

impl Names {
    fn index(&mut self, name: &str, of: &Step) -> u16 {
        let next = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        let (index, stores) = self.0.entry(name.to_owned()).or_insert((next, of.writes));
        // Extracted by several steps: only what all of them write to.
        *stores = stores.iter().filter(|store| of.writes.contains(*store)).collect();
        *index
    }

    fn get(&self, name: &str) -> Option<(u16, Stores)> {
        self.0.get(name).copied()
    }
}

/// What a name stands for, and the stores that hold what it names.
type Resolved = (Hole, Stores);

impl Script {
    /// Resolves every name.
    ///
    /// # Errors
    /// Names the first field that uses a variable which nothing extracts before it.
    pub fn compile(scenario: &Scenario) -> Result<Self, LoadError> {
        let mut shared = Names::default();
        let mut prepare = Vec::new();
        for (s, step) in scenario.prepare.iter().enumerate() {
            let at = format!("prepare[{s}]");
            let ours = |name: &str| shared.get(name).map(|(index, stores)| (Hole::Shared(index), stores));
            let resolve = |name: &str| builtin(name).or_else(|| ours(name));
            let mut made = compile_step("prepare", step, &at, resolve)?;
            made.extract = step.extract.iter().map(|(n, p)| (shared.index(n, step), p.clone())).collect();
            prepare.push(made);
        }
        let (mut steps, mut journeys, mut own_count, mut weight_end) = (Vec::new(), Vec::new(), 0, 0_u64);
        for (j, journey) in scenario.journeys.iter().enumerate() {
            let first = steps.len() as u32;
            let mut own = Names::default();
            for (s, step) in journey.steps.iter().enumerate() {
                let at = format!("journeys[{j}].steps[{s}]");
                let resolve = |name: &str| {
                    let mine = || own.get(name).map(|(index, stores)| (Hole::Own(index), stores));
                    let ours = || shared.get(name).map(|(index, stores)| (Hole::Shared(index), stores));
                    builtin(name).or_else(mine).or_else(ours)
                };
                let mut made = compile_step(&journey.journey, step, &at, resolve)?;
                made.extract = step.extract.iter().map(|(n, p)| (own.index(n, step), p.clone())).collect();
                steps.push(made);
            }
            own_count = own_count.max(own.0.len());
            weight_end += u64::from(journey.weight);
            journeys.push(JourneySpan { first, count: journey.steps.len() as u32, weight_end });
        }
        Ok(Self {
            prepare,
            steps,
            journeys,
            own_count,
            shared_count: shared.0.len(),
            timeout_us: scenario.timeout_ms * 1000,
            think_mean_us: scenario.think.mean_ms as f64 * 1000.0,
        })
    }

    /// First step of the journey that user `user` of `users` makes; shares are exact to one user.
    #[must_use]
    pub fn first_step(&self, user: u32, users: u32) -> u32 {
        let total = self.journeys.last().map_or(0, |journey| journey.weight_end);
        let at = u64::from(user) * total / u64::from(users.max(1));
        self.journeys.iter().find(|journey| at < journey.weight_end).map_or(0, |journey| journey.first)
    }

    /// The step after `step`; after a journey's last one its first.
    #[must_use]
    pub fn next_step(&self, step: u32) -> u32 {
        let span = self.span(step);
        if step + 1 < span.first + span.count { step + 1 } else { span.first }
    }

    /// First step of the journey that `step` belongs to.
    #[must_use]
    pub fn restart(&self, step: u32) -> u32 {
        self.span(step).first
    }

    fn span(&self, step: u32) -> JourneySpan {
        let found = self.journeys.iter().rev().find(|span| span.first <= step);
        found.copied().unwrap_or(JourneySpan { first: 0, count: 1, weight_end: 1 })
    }
}

fn builtin(name: &str) -> Option<Resolved> {
    let hole = match name {
        "op" => Hole::Op,
        "user" => Hole::User,
        "random" => Hole::Random,
        _ => return None,
    };
    Some((hole, Stores::NONE))
}

/// The variable of a read must come from a write to the store that is read, else its absence would prove nothing.
fn compile_reads(reads: &Reads, resolve: impl Fn(&str) -> Option<Resolved>) -> Result<ScriptReads, String> {
    let store = reads.store;
    let what = match (&reads.of, &reads.list) {
        (Some(of), _) => match resolve(of) {
            Some((hole @ (Hole::Own(_) | Hole::Shared(_)), stores)) if stores.contains(store) => {
                ReadWhat::Object { hole, missing: reads.missing.clone() }
            }
            _ => {
                let store = store.as_str();
                return Err(format!(
                    "names ${{{of}}}, which no earlier step extracts that writes to {store}"
                ));
            }
        },
        (None, Some(at)) => ReadWhat::List { at: at.clone(), more: reads.more.clone() },
        (None, None) => return Err("needs either of or list".to_owned()),
    };
    Ok(ScriptReads { store, what })
}

fn compile_step(
    journey: &str,
    step: &Step,
    at: &str,
    resolve: impl Fn(&str) -> Option<Resolved>,
) -> Result<ScriptStep, LoadError> {
    let bad = |field: &str| {
        let field = format!("scenario.{at}.{field}");
        move |message| LoadError::Spec { field, message }
    };
    let reads = step.reads.as_ref().map(|reads| compile_reads(reads, &resolve)).transpose();
    let reads = reads.map_err(bad("reads"))?;
    let resolve = |name: &str| resolve(name).map(|(hole, _)| hole);
    let path = Template::parse(&step.path, resolve).map_err(bad("path"))?;
    let body = step.body.as_deref().map(|body| Template::parse(body, resolve)).transpose();
    let body = body.map_err(bad("body"))?;
    let headers = step.headers.iter().map(|(name, text)| {
        let field = format!("headers.{name}");
        Ok((name.clone(), Template::parse(text, resolve).map_err(bad(&field))?))
    });
    let headers = headers.collect::<Result<Vec<_>, LoadError>>()?;
    let others = body.iter().chain(headers.iter().map(|(_, template)| template));
    let needs = path.own_holes().chain(others.flat_map(Template::own_holes)).collect();
    Ok(ScriptStep {
        name: Name::of(&format!("{journey}.{}", step.step)),
        method: step.method,
        path,
        body,
        headers,
        poll: step.poll.clone(),
        writes: step.writes,
        reads,
        accept: step.accept.clone(),
        extract: Vec::new(),
        assert: step.assert.iter().map(|(p, v)| (p.clone(), v.clone())).collect(),
        degraded: step.degraded.clone(),
        needs,
        repeat: step.repeat.unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::parse_yaml;

    fn scenario(journeys: &str) -> Scenario {
        let text = format!(
            "scenario: s\nservice: n/s:80\nthink: {{meanMs: 1000}}\nprepare: [{{step: p, method: GET, path: /, \
             extract: {{model: /id}}}}]\njourneys: {journeys}"
        );
        parse_yaml(Path::new("s.yaml"), &text).expect("test scenario")
    }

    #[test]
    fn users_are_dealt_by_weight_and_walk_their_journey_in_a_circle() {
        let script = Script::compile(&scenario(
            "[{journey: a, weight: 3, steps: [{step: x, method: GET, path: /}]}, {journey: b, weight: 1, \
             steps: [{step: y, method: GET, path: /, extract: {v: /v}}, {step: z, method: GET, path: '/${v}/${model}'}]}]",
        ))
        .expect("compiles");
        let firsts: Vec<u32> = (0..8).map(|user| script.first_step(user, 8)).collect();
        assert_eq!(firsts, [0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((script.next_step(0), script.next_step(1), script.next_step(2)), (0, 2, 1));
        assert_eq!((script.restart(0), script.restart(2)), (0, 1));
        assert_eq!(script.steps[2].needs, [0]);
        assert_eq!((script.own_count, script.shared_count), (1, 1));
    }

    #[test]
    fn a_header_s_variables_are_needed_like_the_path_s() {
        let script = Script::compile(&scenario(
            "[{journey: a, weight: 1, steps: [{step: x, method: GET, path: /, extract: {t: /t, v: /v}}, \
             {step: y, method: GET, path: '/${v}', headers: {authorization: 'Bearer ${t}'}}]}]",
        ))
        .expect("compiles");
        let mut needs = script.steps[1].needs.clone();
        needs.sort_unstable();
        assert_eq!(needs, [0, 1]);
    }

    #[test]
    fn a_variable_must_be_extracted_before_it_is_used() {
        let table = [
            "[{journey: a, weight: 1, steps: [{step: x, method: GET, path: '/${v}', extract: {v: /v}}]}]",
            "[{journey: a, weight: 1, steps: [{step: x, method: GET, path: /, body: '${typo}'}]}]",
            "[{journey: a, weight: 1, steps: [{step: x, method: GET, path: /, headers: {authorization: '${v}'}}]}]",
        ];
        for journeys in table {
            let message = Script::compile(&scenario(journeys)).expect_err("must fail").to_string();
            assert!(message.contains("journeys[0].steps[0]"), "{message}");
        }
    }

    #[test]
    fn only_the_stores_own_404_says_that_an_object_is_not_there() {
        let script = |missing: &str| {
            let journeys = format!(
                "[{{journey: a, weight: 1, steps: [{{step: x, method: POST, path: /, writes: postgres, extract: {{v: /v}}}}, \
                 {{step: y, method: GET, path: '/${{v}}', reads: {{store: postgres, of: v{missing}}}}}]}}]"
            );
            Script::compile(&scenario(&journeys)).expect("compiles")
        };
        let (told, any) = (script(", missing: model not found"), script(""));
        for (status, body, by_told, by_any) in [
            (404, r#"{"error":"model not found"}"#, true, true),
            (404, r#"{"error":"route not found"}"#, false, true),
            (404, "", false, true),
            (503, "model not found", false, false),
            (200, "model not found", false, false),
        ] {
            let says = [&told, &any].map(|script| script.steps[1].is_missing(status, body.as_bytes()));
            assert_eq!(says, [by_told, by_any], "{status} {body}");
        }
    }

    #[test]
    fn what_is_read_must_come_from_a_write_to_that_store() {
        let journey = |writes: &str, of: &str| {
            format!(
                "[{{journey: a, weight: 1, steps: [{{step: x, method: POST, path: '/${{op}}', writes: {writes}, extract: {{v: /v}}}}, \
                 {{step: y, method: GET, path: '/${{v}}/${{model}}/${{user}}', reads: {{store: postgres, of: {of}}}}}]}}]"
            )
        };
        let script = Script::compile(&scenario(&journey("[kafka, postgres]", "v"))).expect("compiles");
        assert_eq!(script.steps[1].reads_object(), Some(Hole::Own(0)));
        for (writes, of) in [("redis", "v"), ("postgres", "model"), ("postgres", "user")] {
            let message =
                Script::compile(&scenario(&journey(writes, of))).expect_err("must fail").to_string();
            assert!(message.contains("journeys[0].steps[1].reads") && message.contains(of), "{message}");
        }
    }
}
