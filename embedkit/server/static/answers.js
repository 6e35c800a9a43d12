// Answers are sent in the background, one after the other, in the order in which they were given.
export class Answers {
  // `onChange` is called when the number that waits, or the failure, changes.
  constructor(onChange) {
    Object.assign(this, { onChange, waiting: [], failure: null, isRunning: false });
  }

  // Runs an action after all that were given before; its promise has the result.
  add(action, isAnswer = true) {
    if (this.failure && !isAnswer) return Promise.reject(new Error("Some answers are not saved yet: try them again first."));
    return new Promise((resolve, reject) => {
      this.waiting.push({ action, resolve, reject, isAnswer });
      if (this.failure) this.onChange();
      else this.run();
    });
  }

  async run() {
    if (this.isRunning || this.failure) return;
    this.isRunning = true;
    while (this.waiting.length && !this.failure) {
      const [next] = this.waiting;
      this.onChange();
      try {
        const result = await next.action();
        this.waiting.shift();
        next.resolve(result);
      } catch (error) {
        if (next.isAnswer) this.failure = error;
        else {
          this.waiting.shift();
          next.reject(error);
        }
      }
    }
    this.isRunning = false;
    this.onChange();
  }

  get unsent() {
    return this.waiting.filter(({ isAnswer }) => isAnswer).length;
  }

  retry() {
    this.failure = null;
    this.run();
  }

  discard() {
    const dropped = this.waiting;
    Object.assign(this, { waiting: [], failure: null });
    for (const { reject } of dropped) reject(new DOMException("discarded", "AbortError"));
    this.onChange();
  }
}
