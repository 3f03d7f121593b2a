/** A customer's client: a socket that hears of pairings, sessions and chat. Pairings are asked for over HTTP. Options and events: client.mjs. */
import { Client } from './client.mjs';

export class CustomerClient extends Client {
  static path = '/ws/customer';
}
