-- The verbs of the command: what they say when they cannot do what they are asked, or are stopped.
local support = require "spec.support"
local quote, shell = support.quote, support.shell

local REFUSED <const> = "redis://127.0.0.1:1" -- no server is there
local NO_PROC <const> = "unshare -m sh -c " .. quote("mount -t tmpfs none /proc && exec \"$0\" \"$@\"")

local dir

local function verb(words, opts)
  opts = opts or {}
  opts.mode, opts.flags, opts.cwd = "command", words, dir
  return support.run(nil, opts)
end

-- One line on standard error, of this verb.
local function refuses(words, what, opts)
  local r = verb(words, opts)
  assert.same({ 1, "" }, { r.status, r.stdout }, r.stderr)
  local name = words[1]:match("^[^=]+"):gsub("%p", "%%%0")
  local message = r.stderr:match("^mpengine " .. name .. ": ([^\n]+)\n$")
  assert.truthy(message and message:find(what, 1, true), r.stderr)
end

describe("a verb", function()
  setup(function() dir = shell("mktemp -d"):gsub("\n", "") end)
  teardown(function() shell("rm -rf " .. quote(dir)) end)

  for _, words in ipairs { { "ps" }, { "dump" }, { "dump", "1" }, { "dump", "--json" }, { "top" }, { "top", "1" },
    { "trace", "-o", "out.html" }, { "trace", "1", "-o", "out.html" }, { "profile", "-o", "out.svg" },
    { "profile", "1", "-o", "out.svg" } } do
    it("that needs /proc says so in one line: " .. table.concat(words, " "), function()
      if shell("unshare -m true 2>&1") ~= "" then pending("needs a mount namespace") end
      refuses(words, "through /proc, which is not there", { under = NO_PROC })
      assert.equal("", shell("ls " .. quote(dir))) -- and leaves no file
    end)
  end

  it("that needs a server says in one line that there is none, or what is wrong with its URL", function()
    refuses({ "dead", "list", REFUSED }, "cannot connect to redis://127.0.0.1:1")
    refuses({ "top", REFUSED }, "cannot connect to redis://127.0.0.1:1")
    refuses({ "dead", "drop", "http://x" }, "is no URL of a server")
    refuses({ "worker", "x" }, "is no URL of a server")
    refuses({ "worker", "--key-file", "none", REFUSED }, "key file 'none'")
  end)

  it("that cannot write its file says so in one line", function()
    refuses({ "--trace=none/out.json", "script.lua" }, "cannot write: none/out.json")
  end)

  it("that is stopped has the status of the signal, and tells of Ctrl-C in one line", function()
    for signal, told in pairs { INT = { 130, "mpengine: interrupted\n" }, TERM = { 143, "" } } do
      local program = io.popen(("cd %s && echo $$ >pid && exec %s worker --allow 'math.*' %s 2>&1"):format(quote(dir),
        quote(support.command), REFUSED))
      assert.truthy(program:read():find("^mpengine worker: cannot connect .+; trying again$"))
      shell(("kill -%s $(cat %s/pid)"):format(signal, quote(dir)))
      assert.equal(told[2], program:read "a")
      assert.same({ nil, "exit", told[1] }, { program:close() })
    end
  end)
end)
