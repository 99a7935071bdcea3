// One question to the worker, asked again and again: one at a time, not while nobody looks, and less often while no
// answer comes.

const PATIENCE_MS = 5000;
const LONGEST_MS = 3000;

export class Poll {
  #address;
  #everyMs;
  #heard;
  #timer = 0;
  #asking = null;
  #failed = 0;

  // `address` returns what to ask for, or null for nothing now. `heard` has three functions: `got(answer)`, which may
  // return after how many ms to ask again; `refused(sentence)`; `failed()`, where the worker does not answer at all.
  constructor(address, everyMs, heard) {
    this.#address = address;
    this.#everyMs = everyMs;
    this.#heard = heard;
  }

  // Ask at once; an answer that is still awaited is not wanted any more.
  again() {
    this.#asking?.abort();
    this.#asking = null;
    clearTimeout(this.#timer);
    void this.#ask();
  }

  async #ask() {
    const address = this.#address();
    if (document.hidden || address === null) return;
    const asking = (this.#asking = new AbortController());
    const late = setTimeout(() => asking.abort(), PATIENCE_MS);
    const delay = await this.#answered(address, asking);
    clearTimeout(late);
    if (this.#asking !== asking) return; // asked again meanwhile
    this.#timer = setTimeout(() => this.#ask(), delay);
  }

  async #answered(address, asking) {
    let status, answer;
    try {
      const response = await fetch(address, { signal: asking.signal, headers: { Accept: "application/json" } });
      status = response.status;
      answer = await response.json();
    } catch {
      if (this.#asking !== asking) return 0;
      this.#failed += 1;
      this.#heard.failed?.();
      return Math.min(LONGEST_MS, 500 * 1.5 ** (this.#failed - 1));
    }
    if (this.#asking !== asking) return 0;
    this.#failed = 0;
    if (status === 503) return 2 * this.#everyMs; // too many questions: later
    if (status !== 200) {
      this.#heard.refused?.(String(answer.error));
      return 2 * this.#everyMs;
    }
    try {
      return this.#heard.got(answer) ?? this.#everyMs;
    } catch (error) {
      console.error(error); // a mistake of the page: the next answer may be drawn
      return 2 * this.#everyMs;
    }
  }
}
