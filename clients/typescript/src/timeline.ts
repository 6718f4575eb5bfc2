// The ordered entries of a message list: by epoch and offset, each once, bounded. message-list.ts uses it.

import type { Gap, Position } from "hauyna";
import type { ListedGap, ListedMessage } from "./message-list.js";

type Entry = ListedMessage<any> | ListedGap;

interface Row {
  readonly order: number;
  readonly entry: Entry;
}

/** The entries in their order. */
export class Timeline {
  rows: Row[] = [];
  /** The current epoch of the stream. */
  #epoch: string | undefined;
  /** How often the numbering has started again. Offsets of different epochs are not compared. */
  #era = 0;

  /**
   * Returns the sort key of a message. A message without an offset is the last one. Without `epoch`, the
   * current epoch counts.
   */
  order(epoch: string | undefined, offset: number | undefined): number {
    // Another epoch alone does not start another numbering; a gap reports that.
    this.#epoch = epoch ?? this.#epoch;
    return offset === undefined ? (this.rows.at(-1)?.order ?? 0) : this.#era * ERA + offset;
  }

  /** Inserts an entry, unless the list contains that publication. */
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

  /**
   * Adds a gap at the end. Later messages of `epoch` follow it. Adjacent gaps are joined. Returns whether the
   * numbering continues.
   */
  mark(epoch: string | undefined, entry: ListedGap): boolean {
    const isSame = entry.gap.reason !== "epoch_changed" && (epoch === undefined || epoch === this.#epoch);
    if (!isSame) this.#era++;
    this.#epoch = epoch ?? this.#epoch;
    const last = this.rows.at(-1);
    if (last?.entry.kind === "gap") this.rows.splice(-1, 1, { ...last, entry: joined(last.entry, entry.gap) });
    else this.insert((last?.order ?? 0) + 0.5, entry);
    return isSame;
  }

  /**
   * Drops the oldest entries beyond `most`. Returns the position of the oldest entry that is left, if the
   * server may keep what was dropped.
   */
  trim(most: number): Position | undefined {
    if (this.rows.length <= most) return undefined;
    this.rows.splice(0, this.rows.length - most);
    const first = this.rows.find(({ entry }) => offsetOf(entry) !== undefined);
    if (this.#epoch === undefined || !first || first.order < this.#era * ERA) return undefined;
    return { epoch: this.#epoch, offset: first.order - this.#era * ERA };
  }
}

/** Joins two gaps: from the start of the earlier to the end of the later one. */
function joined({ gap, ...entry }: ListedGap, later: Gap): ListedGap {
  return { ...entry, gap: { ...later, from: gap.from, missed: (gap.missed ?? NaN) + (later.missed ?? NaN) || undefined } };
}

function offsetOf(entry: Entry): number | undefined {
  return entry.kind === "message" ? entry.offset : undefined;
}

/** More than any offset. */
const ERA = 2 ** 40;
