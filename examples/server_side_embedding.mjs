// Image search from a language without any machine learning: plain HTTP to a Qdrant that has texts and images embedded.
//
// node examples/server_side_embedding.mjs "a cat asleep"                  # or the path of an image
// node examples/server_side_embedding.mjs "a cat asleep" photos http://localhost:6333
//
// `docker compose up` starts such a Qdrant beside `clip-qdrant serve` (docs/embedding-endpoints.md has it in one line),
// and `clip-qdrant ingest ~/Pictures --collection photos --location http://localhost:6333` fills it.

import { existsSync, readFileSync } from "node:fs";

const [asked, collection = "photos", url = "http://localhost:6333"] = process.argv.slice(2);
const model = "clip-qdrant";
const query = existsSync(asked) ? { image: readFileSync(asked).toString("base64"), model } : { text: asked, model };

const key = process.env.QDRANT_API_KEY;
const answer = await fetch(`${url}/collections/${collection}/points/query`, {
  method: "POST",
  headers: { "Content-Type": "application/json", ...(key && { "api-key": key }) },
  body: JSON.stringify({ query, limit: 5, with_payload: ["uri", "caption"] }),
});
const { result, status } = await answer.json();
if (!answer.ok) {
  console.error(status.error);
  process.exit(1);
}
for (const { score, payload } of result.points) {
  console.log(score.toFixed(3), payload.uri, payload.caption ?? "");
}
