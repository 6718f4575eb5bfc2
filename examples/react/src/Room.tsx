// A room: its messages from the history on, who types, and a line to write in.

import { type ListedMessage, useClient, useMessages, useTyping } from "hauyna/react";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { PAGE_SIZE, type RoomName, time, typingText } from "../../vite/chat.js";
import { useChannel } from "./hooks.js";

export function Room({ name }: { name: RoomName }) {
  const room = useChannel(name);
  const list = useMessages(room, { pageSize: PAGE_SIZE });
  const typing = useTyping(room);
  const [text, setText] = useState("");
  const end = useRef<HTMLLIElement>(null);
  const newest = list.messages.at(-1)?.key;
  useEffect(() => {
    end.current?.scrollIntoView({ block: "nearest" });
  }, [newest]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (text.trim() === "") return;
    void list.publish(text);
    typing.stopTyping();
    setText("");
  }

  return (
    <main className="room">
      <div className="log" role="log" aria-label="Messages" tabIndex={0}>
        {list.hasOlder && (
          <button type="button" className="older" data-testid="older" disabled={list.isLoading} onClick={() => void list.loadOlder()}>
            Older messages
          </button>
        )}
        {list.error && <p className="gap">{list.error.message}</p>}
        <ul className="messages" data-testid="messages" data-loading={list.isLoading}>
          {list.messages.map((one) =>
            one.kind === "gap" ? (
              <li key={one.key} className="gap" data-testid="gap">
                {one.gap.missed ?? "Some"} messages may be missing here
              </li>
            ) : (
              <Message key={one.key} message={one} retry={list.retry} discard={list.discard} />
            ),
          )}
          <li ref={end} aria-hidden="true" />
        </ul>
      </div>
      <p className="typing" data-testid="typing">
        {typingText(typing.users)}
      </p>
      <form onSubmit={submit}>
        <input
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            typing.startTyping();
          }}
          aria-label="Message"
          placeholder="Say something"
          autoComplete="off"
          data-testid="message-input"
        />
        <button type="submit" data-testid="send">
          Send
        </button>
      </form>
    </main>
  );
}

interface MessageProps {
  message: ListedMessage<string>;
  retry: (key: string) => unknown;
  discard: (key: string) => void;
}

function Message({ message: { key, status, user, content, timestamp, error }, retry, discard }: MessageProps) {
  const isMine = user === useClient().user;
  return (
    <li className={isMine ? "message mine" : "message"} data-testid="message" data-state={status} data-user={user}>
      <p className="by">
        {user} · {status === "pending" ? "waits" : time(timestamp)}
      </p>
      <p data-testid="text" dir="auto">
        {content}
      </p>
      {status === "failed" && (
        <p>
          {error?.message}{" "}
          <button type="button" onClick={() => retry(key)}>
            Try again
          </button>{" "}
          <button type="button" onClick={() => discard(key)}>
            Discard
          </button>
        </p>
      )}
    </li>
  );
}
