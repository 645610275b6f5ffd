--- The command: options, the script, its errors, and what follows the script.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local SIGINT, SIGTERM = 2, 15

local the_os, os_exit = package.loaded.os, os.exit -- the script's os, and the original os.exit

-- In force until the process module replaces it: a program that does not need that module starts
-- faster.
function the_os.exit(...)
    the_os.exit = os_exit
    return require("mpengine.process").exit(...)
end

local USAGE = [=[
usage: mpengine [options] [script.lua [args]]     without a script, on a terminal: interactive mode
       mpengine VERB --help                       more of one of these verbs
programs that run, of this user:
  mpengine ps                                     list them
  mpengine top [PID]                              show one, live
  mpengine dump [PID] [--json]                    what each task does, and what it waits for
  mpengine trace [PID] -o FILE.html|FILE.json     what happens in the next seconds
  mpengine profile [PID] -o FILE.svg|FILE.folded  where the time goes in the next seconds
tasks of pools on a Redis server:
  mpengine worker [options] URL                   run them
  mpengine top [options] URL                      show queues and workers
  mpengine dead list|retry|drop URL [ID...]       those whose workers died
  mpengine acl NAMESPACE [USER]                   print the command that makes a user of the server
options:
  -e code         run code
  -i              enter interactive mode after the script
  -l mod          require module 'mod' into global 'mod'
  -l g=mod        require module 'mod' into global 'g'
  -W              turn warnings on
  -E              ignore the environment variables of Lua
  -               run standard input
  --              stop handling options
  --trace=FILE    trace the script into FILE.json or FILE.html
  -v, --version   show the version
  -h, --help      show this text
environment:
  LUA_INIT, LUA_PATH, LUA_CPATH     as in lua
  MPENGINE_SHM_LIMIT=512M           the most shared memory
  MPENGINE_START_METHOD=spawn       of processes: fork, spawn or forkserver
  MPENGINE_DEADLOCK=off             do not report tasks that wait for each other
  MPENGINE_EXECUTABLE=path          the program that spawn and forkserver start in a host
  MPENGINE_ARENA=name               share named objects with programs of this name
  MPENGINE_HISTORY=file             what was typed in the interactive mode; empty: is not kept
  MPENGINE_URL=redis://…            the server of worker and dead
  UV_THREADPOOL_SIZE=8              threads of co.offload in each process
  http_proxy, https_proxy, all_proxy, no_proxy     of requests
  CURL_CA_BUNDLE, SSL_CERT_FILE     the certificates that servers are checked with
  NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID       of systemd, for mp.notify
  HOME, XDG_STATE_HOME, TERM, PATH  as in other programs
]=]

local function fail(message, code)
    core.flush()
    core.write_error("mpengine: " .. message .. "\n")
    return code
end

--- The text of an error value other than a string.
local function tostring_of(value)
    local meta = type(value) ~= "string" and not errors.is(value) and debug.getmetatable(value)
    return type(meta) == "table" and meta.__tostring
end

local interrupted_by -- the signal that interrupted the last call

--- The error value as lua shows it: a value with __tostring has no traceback. __tostring may look
--- at the stack, which is as deep as in lua.
local function describe(err)
    interrupted_by = core.signal_of(err)
    local speak = not interrupted_by and tostring_of(err)
    if not speak then return (errors.traceback(err, 3)) end -- no tail call: levels are counted
    if not core.traceback_of(err) then return speak(err) end
    local text = speak(err)
    return type(text) == "string" and errors.with_origin(text, err) or nil
end

--- The exit status of a program that was stopped by a signal; for Ctrl-C it prints where the
--- program was.
local function stopped(number, text)
    if number == SIGINT then return fail(text, 128 + SIGINT) end
    core.flush()
    return 128 + number
end

--- The exit code, and the first result.
local function call(f, ...)
    interrupted_by = nil
    local ok, err = errors.call(describe, f, ...)
    if ok then return 0, err end
    if interrupted_by then return stopped(interrupted_by, err) end
    return fail(err, 1)
end

--- Runs what is no script: its exit status. What it raises is about its arguments or this machine, so the message
--- is all that is shown of it, and not where Ctrl-C interrupted it.
local function call_verb(name, f, ...)
    local signal
    local ok, result = errors.call(function(err)
        signal = core.signal_of(err)
        return errors.message(err)
    end, f, ...)
    if ok then return result end
    if signal then return stopped(signal, result) end
    core.flush()
    core.write_error(string.format("mpengine %s: %s\n", name, result))
    return 1
end

-- ---- the command line ----

local flags = {
    ["-v"] = "version", ["--version"] = "version", ["-h"] = "help", ["--help"] = "help",
    ["-i"] = "interactive", ["-W"] = "warnings", ["-E"] = "ignore_env",
}

--- Parses the command line: what to do, or nil and a message.
local function parse(argv)
    local todo, i = { steps = {} }, 1
    while argv[i] and argv[i]:sub(1, 1) == "-" and argv[i] ~= "-" do
        local option = argv[i]
        local short = option:sub(1, 2)
        i = i + 1
        if option == "--" then break end
        local trace = option:match "^%-%-trace=(.*)$"
        local word = option:match "^%-%-traced=(%-?%d+)$"
        if trace then
            todo.trace, todo.trace_place = trace, i - 1
        elseif word then
            core.trace_begin(math.tointeger(word))
        elseif flags[option] then
            todo[flags[option]] = true
        elseif short == "-e" or short == "-l" then
            local text = option:sub(3)
            if text == "" then
                text = argv[i]
                i = i + 1
            end
            if not text then return nil, string.format("'%s' needs argument", short) end
            todo.steps[#todo.steps + 1] = { short, text }
        else
            return nil, string.format("unrecognized option '%s'", option)
        end
    end
    todo.script = i
    return todo
end

-- ---- running ----

local function require_into(text)
    local name, module = string.match(text, "^([^=]+)=(.+)$")
    if not name then name, module = string.match(text, "^[^-]*"), text end
    local code, value = call(require, module)
    if code == 0 then _G[name] = value end
    return code
end

local function run_steps(steps)
    for _, step in ipairs(steps) do
        local code
        if step[1] == "-l" then
            code = require_into(step[2])
        else
            local f, err = load(step[2], "=(command line)")
            code = f and call(f) or fail(err or "", 1)
        end
        if code ~= 0 then return code end
    end
    return 0
end

local function run_init()
    local name = "LUA_INIT_" .. _VERSION:match("%d.*"):gsub("%.", "_")
    local init = os.getenv(name)
    if not init then name, init = "LUA_INIT", os.getenv("LUA_INIT") end
    if not init then return 0 end
    local f, err
    if init:sub(1, 1) == "@" then f, err = loadfile(init:sub(2)) else f, err = load(init, "=" .. name) end
    return f and call(f) or fail(err or "", 1)
end

local function load_stdin()
    local text = io.read("a") or ""
    if string.sub(text, 1, 1) == "#" then text = string.gsub(text, "^[^\n]*", "", 1) end -- as loadfile does
    return load(text, "=stdin")
end

local function load_script(name)
    if name == "-" then return load_stdin() end
    local file, why = io.open(name, "r")
    local text, read_why = nil, nil
    if file then
        text, read_why = file:read(0)
        file:close()
    end
    if not text and read_why then why = string.format("%s: %s", name, read_why) end
    if why then return nil, string.format("cannot open %s", why), 2 end
    return loadfile(name)
end

local function set_arg(argv, first)
    local list = {}
    for i = 0, #argv do list[i - first] = argv[i] end
    _G.arg = list
end

local function run_script(name)
    local f, err, code = load_script(name)
    if not f then return fail(err, code or 1) end
    local arg = _G.arg -- as -e, -l and LUA_INIT may have left it
    if type(arg) ~= "table" then return fail("'arg' is not a table", 1) end
    return (call(f, table.unpack(arg, 1, #arg)))
end

--- Completes the program when the main chunk has ended: tasks, children, output.
local function finish(code)
    local process = core.modules["mpengine.process"]
    local function is_stopped() return code == 128 + SIGINT or code == 128 + SIGTERM end
    local function step(f)
        local ended = call(f)
        if code == 0 or ended >= 128 then code = ended end
    end
    if core.hooks.kill_tasks then step(core.hooks.kill_tasks) end -- otherwise there are no tasks
    if process and not is_stopped() then step(process.end_children) end
    if not is_stopped() then step(core.meet_interrupt) end
    if process and is_stopped() then process.stop_all() end
    core.flush()
    return code
end

local function show_version() print("mpengine " .. core.version .. "  (" .. _VERSION .. ")") end

--- What the command does besides running scripts; a script of such a name is run as ./worker.
local verbs = {}
for _, name in ipairs { "ps", "dump", "profile", "trace", "top" } do
    verbs[name] = function(args) return require("mpengine.look.command").run(name, args) end
end
for _, name in ipairs { "worker", "dead", "acl" } do
    verbs[name] = function(args) return require("mpengine.remote.command")[name](args) end
end
local function top_of_pools(args) return require("mpengine.remote.command").top(args) end
local top_of_programs = verbs.top or top_of_pools

--- With a URL it is of remote pools.
function verbs.top(args)
    local has_url = false
    for _, text in ipairs(args) do has_url = has_url or text:find "^%a+://" ~= nil end
    return (has_url and top_of_pools or top_of_programs)(args)
end

--- Carries out the options; returns the exit code of the main chunk.
local function run(argv, todo)
    local script = argv[todo.script]
    if verbs[script] and todo.script == 1 then
        return call_verb(script, verbs[script], table.move(argv, 2, #argv, 1, {}))
    end
    set_arg(argv, script and todo.script or 0)
    if not script and #todo.steps == 0 and not todo.version and not todo.interactive then
        todo.interactive = core.isatty(0)
        if todo.interactive then show_version() end
        script = not todo.interactive and "-" or nil
        argv[todo.script] = script
    end
    if todo.warnings then warn("@on") end
    local code = todo.ignore_env and 0 or run_init()
    if code == 0 then code = run_steps(todo.steps) end
    if code == 0 and script then code = run_script(script) end
    if todo.interactive then code = require("mpengine.repl")() end
    return code
end

return function(argv)
    local todo, err = parse(argv)
    if not todo then
        io.stderr:write("mpengine: ", err, "\n", USAGE)
        return 2
    end
    if todo.help then
        io.write(USAGE)
        return 0
    end
    if todo.trace then
        core.hide_reader()
        return call_verb("--trace", require "mpengine.look.traced", argv, todo.trace_place, todo.trace)
    end
    if todo.version or todo.interactive then show_version() end
    return finish(run(argv, todo))
end
