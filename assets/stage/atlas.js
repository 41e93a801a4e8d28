// Fetches a model's map (coordinates, token texts, facts about the projection) once and keeps it for the page's life.
// What it does not do: retry by itself; a failed fetch is forgotten, so that the next payload tries again.

const LR = new URL("../../", import.meta.url);
const kept = new Map();

async function get(key, file) {
  const answer = await fetch(new URL(`map/${encodeURIComponent(key)}/${file}`, LR));
  if (!answer.ok) throw new Error(`The map could not be read (${file}: HTTP ${answer.status}). Reload the page to try again.`);
  return answer;
}

/** Resolves to {coords: Float32Array (n × 2), meta, tokens: Promise<string[]>}. Token texts follow after the picture. */
export function loadAtlas(key) {
  if (!kept.has(key)) {
    const whole = (async () => {
      const [buffer, meta] = await Promise.all([get(key, "coords.bin").then((r) => r.arrayBuffer()), get(key, "meta.json").then((r) => r.json()).catch(() => ({}))]);
      const coords = new Float32Array(buffer, 0, Math.floor(buffer.byteLength / 8) * 2);
      const tokens = get(key, "tokens.json").then((r) => r.json()).catch(() => []);
      return { coords, meta, tokens };
    })();
    whole.catch(() => kept.delete(key));
    kept.set(key, whole);
  }
  return kept.get(key);
}
