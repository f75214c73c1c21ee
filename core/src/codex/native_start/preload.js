// Loaded into Node before Codex's launcher. Reports what the launcher would start, as one line on stdout, and ends.
// Nothing is started, nothing is written and no connection is made: whatever tries to is reported as refused.
'use strict';

const childProcess = require('node:child_process');
const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const url = require('node:url');

const MARK = 'codex-pool-start ';
const { existsSync, writeSync } = fs;
const end = process.reallyExit.bind(process);

function say(report) {
  let rest = Buffer.from(`\n${MARK}${JSON.stringify(report)}\n`);
  while (rest.length > 0) rest = rest.subarray(writeSync(1, rest));
  end(0);
}
const refuse = (what) => say({ refused: String(what) });

// Another runtime under Node's name may start programs in ways that are not patched here.
if (process.versions.bun || process.versions.deno || typeof Module.syncBuiltinESMExports !== 'function') {
  refuse('the interpreter is not Node');
}

function replace(object, names, replacement) {
  for (const name of names) {
    const original = object?.[name];
    if (typeof original !== 'function') continue;
    const patched = replacement(name, original);
    Object.defineProperties(patched, Object.getOwnPropertyDescriptors(original));
    Object.defineProperty(object, name, { value: patched, configurable: true, writable: true, enumerable: true });
  }
}
const refused = (group) => (name) => function () { refuse(`${group}.${name}`); };

// ---- The environment: which variables the launcher looks at one by one. Copying all of them is no look.
const given = { ...process.env };
const env = process.env;
const looks = new Set();
let described = null;
const look = (name) => {
  if (described !== null && described !== name) looks.add(described);
  described = null;
  if (typeof name === 'string') looks.add(name);
};
process.env = new Proxy(env, {
  get(target, name) {
    if (described === name) described = null;
    else look(name);
    return target[name];
  },
  set(target, name, value) {
    target[name] = value;
    return true;
  },
  has(target, name) {
    look(name);
    return name in target;
  },
  // A copy describes each property and then gets it.
  getOwnPropertyDescriptor(target, name) {
    if (described !== null) looks.add(described);
    described = name;
    return Reflect.getOwnPropertyDescriptor(target, name);
  },
});

// ---- Files: which paths the launcher looks at, whether they are there or not.
const files = new Set();
const folders = new Set();
function note(set, file) {
  if (typeof file === 'number') return;
  if (file instanceof URL) file = url.fileURLToPath(file);
  if (typeof file !== 'string') refuse('a path that is no text');
  set.add(path.resolve(file));
}
const noted = (set) => (name, original) =>
  function (...args) {
    if (/^open(Sync)?$/.test(name) && typeof args[1] !== 'function' && ![undefined, 'r', 'rs', 0].includes(args[1])) {
      refuse(`fs.${name} for writing`);
    }
    note(set, args[0]);
    return new.target ? Reflect.construct(original, args) : original.apply(this, args);
  };
const READS = ['access', 'exists', 'lstat', 'open', 'readFile', 'readlink', 'realpath', 'stat'];
const LISTS = ['opendir', 'readdir'];
const WRITES = [
  'appendFile', 'chmod', 'chown', 'copyFile', 'cp', 'lchmod', 'lchown', 'link', 'lutimes', 'mkdir', 'mkdtemp', 'rename',
  'rm', 'rmdir', 'symlink', 'truncate', 'unlink', 'utimes', 'writeFile', 'createWriteStream', 'watch', 'watchFile', 'glob',
];
const both = (names) => names.flatMap((name) => [name, `${name}Sync`]);
for (const real of [fs.realpath, fs.realpathSync]) replace(real, ['native'], noted(files));
replace(fs, [...both(READS), 'createReadStream'], noted(files));
replace(fs.promises, READS, noted(files));
replace(fs, both(LISTS), noted(folders));
replace(fs.promises, LISTS, noted(folders));
replace(fs, both(WRITES), refused('fs'));
replace(fs.promises, WRITES, refused('fs.promises'));

// ---- Modules: every place where a package is looked for, up to the one where it is.
const resolveFilename = Module._resolveFilename;
Module._resolveFilename = function (request, parent, isMain, options) {
  if (!Module.isBuiltin?.(request) && !Module.builtinModules.includes(request.replace(/^node:/, ''))) {
    if (options?.paths) refuse('require.resolve with paths');
    if (path.isAbsolute(request)) note(files, request);
    else if (!/^\.\.?(\/|$)/.test(request)) {
      const name = request.split('/').slice(0, request.startsWith('@') ? 2 : 1).join('/');
      for (const dir of Module._resolveLookupPaths(request, parent) ?? []) {
        note(files, path.join(dir, name, 'package.json'));
        note(files, path.join(dir, request));
        if (existsSync(path.join(dir, request))) break;
      }
    }
  }
  const found = resolveFilename.call(this, request, parent, isMain, options);
  if (path.isAbsolute(found)) note(files, found);
  return found;
};

// ---- The start itself.
function report(program, argv, environment) {
  if (described !== null) looks.add(described);
  const after = {};
  for (const name in environment) {
    if (environment[name] !== undefined) after[name] = `${environment[name]}`;
  }
  const sorted = (set) => [...set].sort();
  say({
    program: `${program}`, argv: argv.map(String), given, after,
    looks: sorted(looks), files: sorted(files), folders: sorted(folders),
  });
}
const inherits = (stdio) =>
  stdio === 'inherit' || (Array.isArray(stdio) && stdio.length === 3 && stdio.every((s, i) => s === 'inherit' || s === i));
replace(childProcess, ['spawn'], () => function (file, args, options) {
  if (!Array.isArray(args)) [args, options] = [[], args];
  options ??= {};
  for (const name of Object.keys(options)) {
    if (!['stdio', 'env', 'argv0'].includes(name) && options[name]) refuse(`spawn with ${name}`);
  }
  if (!inherits(options.stdio)) refuse('spawn with other descriptors');
  report(file, [options.argv0 ?? file, ...args], options.env ?? env);
});
replace(process, ['execve'], () => function (file, args, environment) {
  report(file, args ?? [], environment ?? env);
});

// ---- Everything else that starts something or talks to somebody.
replace(childProcess, ['exec', 'execFile', 'execFileSync', 'execSync', 'fork', 'spawnSync'], refused('child_process'));
replace(childProcess.ChildProcess.prototype, ['spawn'], refused('ChildProcess'));
replace(process, ['binding', 'dlopen', 'kill'], refused('process'));
replace(require('node:worker_threads'), ['Worker'], refused('worker_threads'));
const net = require('node:net');
const dgram = require('node:dgram');
const dns = require('node:dns');
replace(net.Socket.prototype, ['connect'], refused('net.Socket'));
replace(net.Server.prototype, ['listen'], refused('net.Server'));
replace(dgram.Socket.prototype, ['bind', 'connect', 'send'], refused('dgram.Socket'));
const asks = (object) => Object.keys(object).filter((name) => /^(lookup|resolve|reverse)/.test(name));
replace(dns, asks(dns), refused('dns'));
replace(dns.promises, asks(dns.promises), refused('dns'));
Module.syncBuiltinESMExports();
