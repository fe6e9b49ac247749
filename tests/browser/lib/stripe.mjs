// Stripe's side of a sale: the webhook, signed by their own library, and what our API made of it.
// In: a running server, its secret and its token. Out: answers.
// Promise: the event is the fixture of a paid checkout session, with this reference and these ids.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import Stripe from "stripe";

const COMPLETED = JSON.parse(readFileSync(new URL("../../fixtures/checkout.session.completed.json", import.meta.url), "utf8"));

/** A checkout session that was just paid with this reference. */
export const paidWith = (reference, id) => {
  const event = structuredClone(COMPLETED);
  event.id = `evt_${id}`;
  event.created = Math.floor(Date.now() / 1000);
  event.data.object.id = id;
  event.data.object.payment_intent = `pi_${id}`;
  event.data.object.client_reference_id = reference;
  return event;
};

/** A webhook, signed by Stripe's library, as their servers send it. */
export const sendWebhook = (server, secret, event) => {
  const payload = JSON.stringify(event);
  const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret });
  return fetch(`${server.url}/webhooks/stripe/main`, {
    method: "POST",
    headers: { "content-type": "application/json; charset=utf-8", "stripe-signature": signature },
    body: payload,
  });
};

/** What the API answers to its token's holder. */
export const askApi = async (server, token, path) => {
  const response = await fetch(`${server.url}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200, path);
  return response.json();
};

/** The same, asked again until it is so: processing follows the webhook's answer, in another task of the server. */
export const askUntil = async (server, token, path, isSo) => {
  for (let tries = 0; tries < 300; tries++) {
    const answer = await askApi(server, token, path);
    if (isSo(answer)) return answer;
  }
  assert.fail(`${path} never came to it`);
};
