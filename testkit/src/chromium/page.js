// The page's end of one data channel at a time: what is asked for by name returns a promise of what it waits for.
"use strict";

/** What is kept unsent at most before the page waits, in bytes: Chromium closes a channel that holds 16 MiB. */
const UNSENT_MAX = 4 * 1024 * 1024;

/** What of it must be left when the page goes on. */
const UNSENT_LOW = 1024 * 1024;

class End {
  /** Returns the description of an offer with all its candidates. */
  async offer() {
    this.#begin();
    this.#take(this.connection.createDataChannel("kinlog"));
    return this.#described();
  }

  /** Takes the answer to the offer. */
  async accept(sdp) {
    await this.connection.setRemoteDescription({ type: "answer", sdp });
  }

  /** Takes an offer; returns the description of the answer with all its candidates. */
  async answer(sdp) {
    this.#begin();
    await this.connection.setRemoteDescription({ type: "offer", sdp });
    return this.#described();
  }

  /** Waits for the open channel; returns the largest message that the other side takes. */
  async opened() {
    await this.open;
    return this.connection.sctp.maxMessageSize;
  }

  /** Says every message back. */
  echo() {
    const channel = this.channel;
    channel.onmessage = (event) => channel.send(event.data);
  }

  /** Sends so many messages of so many bytes. */
  async send(messages, bytes) {
    const channel = this.channel;
    const message = new Uint8Array(bytes).fill(97);
    channel.bufferedAmountLowThreshold = UNSENT_LOW;
    for (let sent = 0; sent < messages; sent++) {
      if (channel.bufferedAmount > UNSENT_MAX) {
        await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
      }
      channel.send(message);
    }
  }

  /** Begins to count what comes. */
  count() {
    this.heard = { bytes: 0, first: 0, last: 0 };
    this.channel.onmessage = (event) => {
      this.heard.last = performance.now();
      this.heard.first ||= this.heard.last;
      this.heard.bytes += event.data.byteLength;
      this.reached?.();
    };
  }

  /**
   * Waits until so many bytes have come, or so many milliseconds are over; returns how many came, and how long after
   * the first message the last one did.
   */
  async counted(bytes, ms) {
    await new Promise((resolve) => {
      setTimeout(resolve, ms);
      this.reached = () => this.heard.bytes >= bytes && resolve();
      this.reached();
    });
    return { bytes: this.heard.bytes, seconds: (this.heard.last - this.heard.first) / 1000 };
  }

  /** Waits until the channel is closed. */
  async closed() {
    await this.end;
  }

  /** Closes the channel. */
  close() {
    this.channel.close();
  }

  /** Closes the connection. */
  leave() {
    this.connection.close();
  }

  #begin() {
    this.connection?.close();
    this.connection = new RTCPeerConnection();
    this.open = new Promise((resolve, reject) => {
      this.connection.ondatachannel = (event) => this.#take(event.channel);
      this.connection.onconnectionstatechange = (event) => {
        if (event.target.connectionState === "failed") reject(new Error("the connection failed"));
      };
      this.isOpen = resolve;
    });
    // Nobody may have asked whether it opened.
    this.open.catch(() => {});
  }

  #take(channel) {
    this.channel = channel;
    channel.binaryType = "arraybuffer";
    this.end = new Promise((resolve) => (channel.onclose = () => resolve()));
    if (channel.readyState === "open") this.isOpen();
    else channel.onopen = this.isOpen;
  }

  async #described() {
    const connection = this.connection;
    await connection.setLocalDescription();
    await new Promise((resolve) => {
      const look = () => connection.iceGatheringState === "complete" && resolve();
      connection.onicegatheringstatechange = look;
      look();
    });
    return connection.localDescription.sdp;
  }
}

const end = new End();

/** Sends messages from one connection of this page to another one; returns what `counted` does. */
async function toItself(messages, bytes, ms) {
  const [one, other] = [new End(), new End()];
  await one.accept(await other.answer(await one.offer()));
  await Promise.all([one.opened(), other.opened()]);
  other.count();
  // One that stalls is told by what came.
  one.send(messages, bytes).catch(() => {});
  const heard = await other.counted(messages * bytes, ms);
  one.leave();
  other.leave();
  return heard;
}
