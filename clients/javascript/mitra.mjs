/** A mitra's client. Options, events and what it shares with customers': client.mjs. */
import { Client } from './client.mjs';

export class MitraClient extends Client {
  static path = '/ws/mitra';

  /** The mitra's own switch; resolved once it is stored. */
  async setOnline(online) {
    await this.request({ type: 'status', online });
    this.sync(); // the answer does not say what it changed
  }
  /** @returns {Promise<{result: 'won' | 'taken' | 'expired' | 'busy' | 'withdrawn', session?: object}>} */
  accept(pairing_id) { return this.request({ type: 'offer.accept', pairing_id }); }
  /** Resolved without a value, or with a `result` where it had been decided before. */
  async decline(pairing_id) {
    const decided = await this.request({ type: 'offer.decline', pairing_id });
    if (!decided) this.sync(); // without the offer
    return decided;
  }
  /** Somebody has seen it. */
  seen(pairing_id) { return this.request({ type: 'offer.seen', pairing_id }); }
}
