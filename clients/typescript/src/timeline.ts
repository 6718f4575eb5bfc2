// The entries of a message list that have their place: ordered by the life of the stream and the offset, each once,
// bounded. Used by message-list.ts.

import type { Gap, Position } from "hauyna";
import type { ListedGap, ListedMessage } from "./message-list.js";

type Entry = ListedMessage<any> | ListedGap;

interface Row {
  readonly order: number;
  readonly entry: Entry;
}

/** Entries in their order. */
export class Timeline {
  rows: Row[] = [];
  /** The numbering of the stream. */
  #epoch: string | undefined;
  /** How often it has begun again: offsets of different epochs are not compared. */
  #era = 0;

  /** Where a message stands; one without an offset comes last. Without an epoch it is the one that is known. */
  order(epoch: string | undefined, offset: number | undefined): number {
    // Another name alone is no other numbering: a gap tells of that.
    this.#epoch = epoch ?? this.#epoch;
    return offset === undefined ? (this.rows.at(-1)?.order ?? 0) : this.#era * ERA + offset;
  }

  /** Puts an entry at its place, unless that publication is here. */
  insert(order: number, entry: Entry): void {
    let at = 0;
    for (let end = this.rows.length; at < end; ) {
      const middle = (at + end) >>> 1;
      if ((this.rows[middle] as Row).order <= order) at = middle + 1;
      else end = middle;
    }
    const before = this.rows[at - 1];
    if (before?.order === order && offsetOf(entry) !== undefined && offsetOf(before.entry) !== undefined) return;
    this.rows.splice(at, 0, { order, entry });
  }

  /** Marks the end as a place where messages may be missing; what is newer than that in `epoch` comes behind it. Several
   * without a message between them are one. Gives whether the numbering goes on. */
  mark(epoch: string | undefined, entry: ListedGap): boolean {
    const isSame = entry.gap.reason !== "epoch_changed" && (epoch === undefined || epoch === this.#epoch);
    if (!isSame) this.#era++;
    this.#epoch = epoch ?? this.#epoch;
    const last = this.rows.at(-1);
    if (last?.entry.kind === "gap") this.rows.splice(-1, 1, { ...last, entry: joined(last.entry, entry.gap) });
    else this.insert((last?.order ?? 0) + 0.5, entry);
    return isSame;
  }

  /** Drops the oldest beyond `most`. Gives the position of the oldest left, where the server may have what was dropped. */
  trim(most: number): Position | undefined {
    if (this.rows.length <= most) return undefined;
    this.rows.splice(0, this.rows.length - most);
    const first = this.rows.find(({ entry }) => offsetOf(entry) !== undefined);
    if (this.#epoch === undefined || !first || first.order < this.#era * ERA) return undefined;
    return { epoch: this.#epoch, offset: first.order - this.#era * ERA };
  }
}

/** An earlier gap, up to the end of a later one. */
function joined({ gap, ...entry }: ListedGap, later: Gap): ListedGap {
  return { ...entry, gap: { ...later, from: gap.from, missed: (gap.missed ?? NaN) + (later.missed ?? NaN) || undefined } };
}

function offsetOf(entry: Entry): number | undefined {
  return entry.kind === "message" ? entry.offset : undefined;
}

/** More than any offset. */
const ERA = 2 ** 40;
