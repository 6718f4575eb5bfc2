// Made of page.ts: change that file.
// The board: cards that everybody sees, remarks about them. Compiled against contract.ts, which the program gives: every
// name and field below that has to do with the server is checked by the compiler.
import { face, make, time } from "/elements.js";
import { complain, enter, showState } from "/frame.js";
import { Client } from "/hauyna.js";
const MAX_LINES = 50; // remarks on the page
const cards = new Map();
let about;
/** The element with this identifier; the kind is what the page has it as. */
function at(id, kind) {
    const element = document.getElementById(id);
    if (!(element instanceof kind))
        throw new Error(`there is no ${id}`);
    return element;
}
const me = await enter("Who is at the board?");
let socket;
const client = new Client(`/live?user_id=${encodeURIComponent(me)}`, {
    // Only so that the button of the frame has something to cut.
    WebSocket: class extends WebSocket {
        constructor(url, protocols) {
            super(url, protocols);
            socket = this;
        }
    },
});
const show = showState({ retry: () => client.reconnect(), cut: () => socket?.close(4000) });
client.onState((state) => {
    const isConnected = state.name === "connected";
    for (const id of ["put", "say"])
        at(id, HTMLButtonElement).disabled = !isConnected;
    show(state.name === "reconnecting" ? { name: "waiting", until: state.retryAt } : state);
});
// The channel's type is known by its name: `board:{name}` of the contract.
const board = client.channel("board:main");
board.on("card_added", ({ card }) => put(card));
board.on("card_removed", ({ number, by }) => {
    const card = cards.get(number);
    cards.delete(number);
    if (about?.number === number)
        speakAbout(undefined);
    if (card)
        tell(by, `removed “${card.title}”`, Date.now());
    draw();
});
board.on("message", ({ content, user, timestamp }) => {
    const card = content.about == null ? undefined : cards.get(content.about);
    tell(user ?? "The board", card ? `${content.text} (about “${card.title}”)` : content.text, timestamp);
});
board.onGap(() => void load());
// What the server asks, and what it takes as an answer.
client.onRequest("confirm", ({ card }) => {
    const dialog = at("question", HTMLDialogElement);
    at("question-text", HTMLElement).textContent = `“${card.title}” is ${card.by}’s. Remove it?`;
    dialog.returnValue = "no"; // Escape is a no, too
    dialog.showModal();
    return new Promise((answered) => {
        dialog.addEventListener("close", () => answered(dialog.returnValue === "yes"), { once: true });
    });
});
at("add", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const title = at("title", HTMLInputElement);
    const colour = at("colour", HTMLSelectElement).value;
    void attempt(async () => {
        await client.request("add_card", { title: title.value, colour });
        title.value = "";
    });
});
at("talk", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = at("text", HTMLInputElement);
    void attempt(async () => {
        await board.publish(about ? { text: text.value, about: about.number } : { text: text.value });
        text.value = "";
    });
});
await client.connect();
await board.subscribe();
await load();
async function load() {
    await attempt(async () => {
        const all = await client.request("list_cards");
        cards.clear();
        for (const card of all)
            cards.set(card.number, card);
        draw();
    });
}
function put(card) {
    cards.set(card.number, card);
    draw();
}
function draw() {
    at("cards", HTMLUListElement).replaceChildren(...[...cards.values()].map(drawn));
}
function drawn(card) {
    const item = make("li");
    item.dataset["colour"] = card.colour;
    item.dataset["testid"] = "card";
    const speak = make("button", "quiet", "Remark");
    speak.addEventListener("click", () => speakAbout(card));
    const remove = make("button", "quiet", "Remove");
    remove.addEventListener("click", () => {
        void attempt(async () => {
            const isGone = await client.request("remove_card", { number: card.number });
            if (!isGone)
                tell(me, `kept “${card.title}”`, Date.now());
        });
    });
    const actions = make("div", "actions");
    actions.append(speak, remove);
    item.append(make("strong", "", card.title), make("span", "soft", card.by), actions);
    return item;
}
function speakAbout(card) {
    about = card;
    at("about", HTMLElement).textContent = card ? `“${card.title}”` : "the board";
    if (card)
        at("text", HTMLInputElement).focus();
}
function tell(who, text, timestamp) {
    const line = make("li");
    line.dataset["testid"] = "remark";
    line.append(face(who), make("span", "grow", `${who}: ${text}`), time(timestamp));
    const log = at("remarks", HTMLOListElement);
    log.prepend(line);
    while (log.children.length > MAX_LINES)
        log.lastChild?.remove();
}
async function attempt(work) {
    try {
        await work();
        complain(null);
    }
    catch (problem) {
        complain(problem);
    }
}
