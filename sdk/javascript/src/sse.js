/**
 * Reads server-sent events (WHATWG HTML §9.2.6) from a stream of bytes. Gives `{ comment }` for a
 * comment, `{ retry }` for a retry field and `{ event, data, id }` for an event. Time and memory
 * grow with the bytes, however they are cut; a line of more than `most` bytes is an error.
 */
export async function* events(body, most = 256 << 20) {
  let event = blank();
  for await (const line of lines(body, most)) {
    if (line === "") {
      if (event.data.length > 0) yield { event: event.name || "message", data: event.data.join("\n"), id: event.id };
      event = blank();
      continue;
    }
    const at = line.indexOf(":");
    const field = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(line[at + 1] === " " ? at + 2 : at + 1);
    if (field === "") yield { comment: value };
    else if (field === "event") event.name = value;
    else if (field === "data") event.data.push(value);
    else if (field === "id" && !value.includes("\0")) event.id = value;
    else if (field === "retry" && /^\d{1,9}$/.test(value)) yield { retry: Number(value) };
  }
}

const blank = () => ({ name: "", data: [], id: undefined });

async function* lines(body, most) {
  const decoder = new TextDecoder();
  let parts = [];
  let size = 0;
  let afterReturn = false;
  for await (const chunk of body) {
    const decoded = decoder.decode(chunk, { stream: true });
    if (decoded === "") continue;
    // A line may end in two chunks.
    const text = afterReturn && decoded.startsWith("\n") ? decoded.slice(1) : decoded;
    afterReturn = decoded.endsWith("\r");
    const pieces = text.split(/\r\n|\n|\r/);
    const last = pieces.pop();
    for (const piece of pieces) {
      parts.push(piece);
      yield parts.join("");
      parts = [];
      size = 0;
    }
    size += last.length;
    if (size > most) throw new Error(`a line of more than ${most} bytes`);
    if (last !== "") parts.push(last);
  }
}
