// Verifies a delivery of standard, bigcommerce, bunship or bunjang. Node.js 18 or
// later, no packages. As a module:
//
//   import { verify } from "./verify.mjs";
//   verify("standard", [process.env.WEBHOOK_SECRET], request.headers, body); // body: a Buffer, as received
//
// and from a shell, with the headers as "Name: value" lines and one secret a line:
//
//   node verify.mjs standard headers body secrets
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const TOLERANCE = 5 * 60; // seconds, either way

// verify throws an Error unless one of the secrets signed the body and the
// signature is fresh. Names of headers are in lower case, as in Node's http.
export function verify(contract, secrets, headers, body, now = Math.floor(Date.now() / 1000)) {
  const header = (name) => {
    if (typeof headers[name] !== "string") throw new Error(`no header ${name}`);
    return headers[name];
  };
  let timestamp, prefix, given, digest, key;
  switch (contract) {
    case "standard":
    case "bigcommerce":
      timestamp = header("webhook-timestamp");
      prefix = `${header("webhook-id")}.${timestamp}.`;
      given = header("webhook-signature").split(" ").filter((s) => s.startsWith("v1,")).map((s) => s.slice(3));
      digest = "base64";
      key = (secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64");
      break;
    case "bunship":
    case "bunjang": {
      const entries = header(contract === "bunship" ? "x-webhook-signature" : "x-bun-webhook-signature").split(",");
      timestamp = entries.find((s) => s.startsWith("t="))?.slice(2);
      prefix = `${timestamp}.`;
      given = entries.filter((s) => s.startsWith("v1=")).map((s) => s.slice(3));
      digest = "hex";
      key = (secret) => secret; // the whole text, prefix included
      break;
    }
    default:
      throw new Error(`no contract ${contract}`);
  }
  if (!/^[0-9]{1,12}$/.test(timestamp ?? "")) throw new Error("no timestamp");
  if (Math.abs(now - Number(timestamp)) > TOLERANCE) throw new Error("the timestamp is too far from now");
  let matched = false;
  for (const secret of secrets) {
    const want = Buffer.from(createHmac("sha256", key(secret)).update(prefix).update(body).digest(digest));
    for (const text of given) {
      const got = Buffer.from(text);
      if (got.length === want.length && timingSafeEqual(got, want)) matched = true;
    }
  }
  if (!matched) throw new Error("no signature matches");
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [contract, headersFile, bodyFile, secretsFile] = process.argv.slice(2);
  const lines = (file) => readFileSync(file, "utf8").split(/\r?\n/).filter((line) => line !== "");
  const headers = Object.fromEntries(lines(headersFile).map((line) => {
    const at = line.indexOf(":");
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
  }));
  const now = process.env.VERIFY_NOW ? Number(process.env.VERIFY_NOW) : undefined; // to look into an old delivery
  try {
    verify(contract, lines(secretsFile), headers, readFileSync(bodyFile), now);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  console.log("verified");
}
