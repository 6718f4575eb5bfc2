//! What one task sends to one connection, by whatever verbs, arrives in the order in which the calls returned.

use crate::order::{Order, Verb};
use crate::server::MIXED;
use crate::stage::Stage;
use anyhow::Result;

/// A task of the application takes all verbs in turn.
pub(crate) async fn mixed(stage: &mut Stage) -> Result<()> {
    stage.join_group("reader0").await?;
    let reader = stage.readers("reader", 1, &["reader0"]).await?;
    stage.begin().await?;
    let count = stage.choose(1500, 10_000);
    let source = stage.order(Order::new(Verb::Mixed, "reader0", count, 64)).await?;
    stage.expect(reader, source, count);
    stage.await_orders().await
}

/// A callback sends to its own client by all verbs; its answer comes last.
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
        // The messages that an answer overtook are on their way: the next call is not to mix with them.
        stage.settle_on(reader.start, source, number + MIXED).await;
    }
    Ok(())
}
