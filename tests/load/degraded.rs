//! What a step's `degraded` makes of answers.

use mettle::model::OperationOutcome::Ok as Done;

use crate::load_support::{Run, Server, scenario};

#[tokio::test]
async fn an_answer_with_less_is_told_by_its_header_or_its_body_and_only_when_it_is_one() {
    let server = Server::start().await;
    let journey = "{step: header, method: GET, path: /less/200, degraded: {header: x-less}}, \
        {step: body, method: GET, path: /less/200, degraded: {pointer: /degraded}}, \
        {step: whole, method: GET, path: /ok, degraded: {pointer: /degraded}}, \
        {step: refused, method: GET, path: /less/503, degraded: {header: x-less}}, \
        {step: unasked, method: GET, path: /less/200}";
    let run = Run::new(&server.url, &scenario(1000, 50, &[journey]), 4);
    let finished = run.run(1.5).await;
    for (name, want) in
        [("header", true), ("body", true), ("whole", false), ("refused", false), ("unasked", false)]
    {
        let mut of = finished.operations.iter().filter(|op| op.step == format!("j.{name}")).peekable();
        assert!(of.peek().is_some(), "{name}");
        assert!(of.all(|op| op.degraded == want && (op.outcome == Done) == (name != "refused")), "{name}");
    }
}
