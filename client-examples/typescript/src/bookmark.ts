// Where this program is in the stream, kept in a file over restarts.

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

export class Bookmark {
  /** Cursor of the last change that was dealt with; undefined before the first. */
  cursor: string | undefined;
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
    try {
      this.cursor = readFileSync(file, "utf8").trim() || undefined;
    } catch (problem) {
      if ((problem as NodeJS.ErrnoException).code !== "ENOENT") throw problem;
    }
  }

  /** Stores a cursor; a reader of the file sees the old one or the new one, never half of it. */
  move(cursor: string): void {
    writeFileSync(`${this.#file}.new`, `${cursor}\n`);
    renameSync(`${this.#file}.new`, this.#file);
    this.cursor = cursor;
  }

  forget(): void {
    rmSync(this.#file, { force: true });
    this.cursor = undefined;
  }
}
