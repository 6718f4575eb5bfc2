// The ordered entries of a message list: ranked by epoch and offset, each once, bounded. It belongs to
// message-list.ts.

import type { Gap, Position } from "hauyna";
import type { ListedGap, ListedMessage } from "./message-list.js";

type Entry = ListedMessage<any> | ListedGap;

interface Row {
  readonly rank: number;
  readonly entry: Entry;
}

/** The entries in their order. */
export class OrderedEntries {
  rows: Row[] = [];
  /** The current epoch of the stream. */
  #epoch: string | undefined;
  /** How often the numbering has started again. Offsets of different epochs are not compared. */
  #numberings = 0;

  /**
   * Returns the rank of a message in the list. A message without an offset is the last one. Without `epoch`,
   * the current epoch counts.
   */
  rank(epoch: string | undefined, offset: number | undefined): number {
    // Another epoch alone does not start another numbering; a gap reports that.
    this.#epoch = epoch ?? this.#epoch;
    return offset === undefined ? (this.rows.at(-1)?.rank ?? 0) : this.#numberings * NUMBERING_SIZE + offset;
  }

  /** Inserts an entry, unless the list contains that publication. */
  insert(rank: number, entry: Entry): void {
    let index = 0;
    for (let end = this.rows.length; index < end; ) {
      const middle = (index + end) >>> 1;
      if ((this.rows[middle] as Row).rank <= rank) index = middle + 1;
      else end = middle;
    }
    const before = this.rows[index - 1];
    if (before?.rank === rank && offsetOf(entry) !== undefined && offsetOf(before.entry) !== undefined) return;
    this.rows.splice(index, 0, { rank, entry });
  }

  /**
   * Adds a gap at the end. Later messages of `epoch` follow it. Adjacent gaps are joined. Returns whether the
   * numbering continues.
   */
  addGap(epoch: string | undefined, entry: ListedGap): boolean {
    const isContinued = entry.gap.reason !== "epoch_changed" && (epoch === undefined || epoch === this.#epoch);
    if (!isContinued) this.#numberings++;
    this.#epoch = epoch ?? this.#epoch;
    const last = this.rows.at(-1);
    if (last?.entry.kind === "gap") this.rows.splice(-1, 1, { ...last, entry: joinGaps(last.entry, entry.gap) });
    else this.insert((last?.rank ?? 0) + 0.5, entry);
    return isContinued;
  }

  /**
   * Drops the oldest entries beyond `maxEntries`. Returns the position of the oldest entry that is left, if
   * the server may keep what was dropped.
   */
  trim(maxEntries: number): Position | undefined {
    if (this.rows.length <= maxEntries) return undefined;
    this.rows.splice(0, this.rows.length - maxEntries);
    const first = this.rows.find(({ entry }) => offsetOf(entry) !== undefined);
    if (this.#epoch === undefined || !first || first.rank < this.#numberings * NUMBERING_SIZE) return undefined;
    return { epoch: this.#epoch, offset: first.rank - this.#numberings * NUMBERING_SIZE };
  }
}

/** Joins two gaps: from the start of the earlier to the end of the later one. */
function joinGaps({ gap, ...entry }: ListedGap, later: Gap): ListedGap {
  return { ...entry, gap: { ...later, from: gap.from, missed: (gap.missed ?? NaN) + (later.missed ?? NaN) || undefined } };
}

function offsetOf(entry: Entry): number | undefined {
  return entry.kind === "message" ? entry.offset : undefined;
}

/** More than any offset. */
const NUMBERING_SIZE = 2 ** 40;
