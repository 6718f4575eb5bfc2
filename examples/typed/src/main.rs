//! A board whose page the TypeScript compiler checks against the types below.
//!
//! `cargo run --package hauyna-example-typed`, then open <http://127.0.0.1:3010>. After a change of the
//! types, pass `--types examples/typed/page/contract.ts` to write them.

use hauyna::contract::{ChannelContract, ClientRequestType, Contract};
use hauyna::{ChannelOptions, Context, Handler, Hub, Reject, Router};
use hauyna_example_page::Page;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

#[derive(Clone, Serialize, JsonSchema)]
struct Card {
    number: u32,
    title: String,
    colour: Colour,
    /// Who has added it.
    by: String,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Blue,
    Green,
    Amber,
}

/// What everybody at the board hears.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BoardEvent {
    CardAdded { card: Card },
    CardRemoved { number: u32, by: String },
}

/// What people say at the board, about a card or about nothing. They publish it themselves.
#[derive(Deserialize, Serialize, JsonSchema)]
struct Remark {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
struct ListCards {}

#[derive(Deserialize, JsonSchema)]
struct AddCard {
    title: String,
    /// Blue, where nothing is said.
    colour: Option<Colour>,
}

#[derive(Deserialize, JsonSchema)]
struct RemoveCard {
    number: u32,
}

#[derive(Serialize, JsonSchema)]
struct Confirm {
    card: Card,
}

/// The client request to a user who removes another user's card.
const CONFIRM: ClientRequestType<Confirm, bool> = ClientRequestType::new("confirm");

/// Returns the contract between the page and this program.
fn contract() -> Contract {
    Contract::new("Board", env!("CARGO_PKG_VERSION"))
        .event::<ListCards, Vec<Card>>("list_cards")
        .event::<AddCard, Card>("add_card")
        .event::<RemoveCard, bool>("remove_card")
        .client_request(CONFIRM)
        .channel("board:{name}", ChannelContract::new().content::<Remark>().messages::<BoardEvent>())
}

type Board = Mutex<Vec<Card>>;

async fn list_cards(cx: Context, _: ListCards) -> hauyna::Result<Vec<Card>> {
    Ok(cx.state::<Board>().lock().await.clone())
}

async fn add_card(cx: Context, new: AddCard) -> hauyna::Result<Card> {
    if new.title.trim().is_empty() || new.title.len() > 200 {
        return Err(hauyna::validate::Invalid::at("title", "is empty or too long").into());
    }
    let (board, by) = (cx.state::<Board>(), cx.user().to_string());
    let mut cards = board.lock().await;
    let number = cards.last().map_or(1, |last| last.number + 1);
    let card = Card { number, title: new.title, colour: new.colour.unwrap_or(Colour::Blue), by };
    cards.push(card.clone());
    cx.channel(BOARD).broadcast(BoardEvent::CardAdded { card: card.clone() }).await?;
    Ok(card)
}

async fn remove_card(cx: Context, RemoveCard { number }: RemoveCard) -> hauyna::Result<bool> {
    let (board, by) = (cx.state::<Board>(), cx.user().to_string());
    let found = board.lock().await.iter().find(|card| card.number == number).cloned();
    let card = found.ok_or(hauyna::Error::application("this card is gone"))?;
    if card.by != by && !CONFIRM.ask(&cx.connection(), &Confirm { card }).await? {
        return Ok(false);
    }
    board.lock().await.retain(|card| card.number != number);
    cx.channel(BOARD).broadcast(BoardEvent::CardRemoved { number, by }).await?;
    Ok(true)
}

fn hub() -> Hub {
    Hub::builder().channels("board:{name}", ChannelOptions::new().content::<Remark>()).build()
}

fn handler() -> Handler {
    let handler = Handler::new()
        .identify(|request| match request.query("user_id") {
            Some(name) if !name.trim().is_empty() => Ok(name),
            _ => Err(Reject::unauthorized("user_id is required")),
        })
        .on("list_cards", list_cards)
        .on("add_card", add_card)
        .on("remove_card", remove_card)
        .state(Board::default());
    contract().check(&handler); // what the page is compiled against is what is served
    handler
}

#[tokio::main]
async fn main() -> hauyna::Result {
    if let [_, flag, path] = &std::env::args().collect::<Vec<_>>()[..]
        && flag == "--types"
    {
        return Ok(std::fs::write(path, contract().typescript())?);
    }
    let listener = hauyna_example_page::listen(3010)?;
    let router = Router::new(hub()).websocket("/live", handler()).fallback(PAGE.router());
    router.into_server().serve_listener(listener).await
}

const PAGE: Page = Page {
    html: include_str!("../page/index.html"),
    style: include_str!("../page/page.css"),
    script: include_str!("../page/page.js"),
    program: include_str!("main.rs"),
};
const BOARD: &str = "board:main";

#[cfg(test)]
mod tests;
