//! Messages from one task to one connection arrive in the order in which the calls returned, whatever the
//! verbs.

use crate::order::{Order, Verb};
use crate::server::MIXED;
use crate::stage::Stage;
use anyhow::Result;

/// Sends by all verbs in turn from a task of the application.
pub(crate) async fn mixed(stage: &mut Stage) -> Result<()> {
    stage.join_group("reader0").await?;
    let reader = stage.readers("reader", 1, &["reader0"]).await?;
    stage.begin().await?;
    let count = stage.choose(1500, 10_000);
    let source = stage.order(Order::new(Verb::Mixed, "reader0", count, 64)).await?;
    stage.expect(reader, source, count);
    stage.await_orders().await
}

/// Sends by all verbs from a callback to its own client; its answer arrives last.
pub(crate) async fn callback(stage: &mut Stage) -> Result<()> {
    stage.join_group("reader0").await?;
    let reader = stage.readers("reader", 1, &["reader0"]).await?;
    stage.begin().await?;
    let (source, calls) = (stage.source(), stage.choose(200, 1000));
    stage.expect(reader.clone(), source, calls * (MIXED + 1));
    for call in 0..calls {
        let number = call * (MIXED + 1) + 1;
        let request = format!("{{\"type\":\"mixed\",\"id\":1,\"source\":{source},\"number\":{number}}}");
        stage.clients[reader.start].request(&request).await?;
        // Messages that an answer overtook may still arrive; wait, so that the next call does not mix with
        // them.
        stage.settle_on(reader.start, source, number + MIXED).await;
    }
    Ok(())
}
