--- The command: options, the script, its errors, and what comes after it.
local core = require "mpengine.core"

local USAGE = [=[
usage: mpengine [options] [script [args]]
  -e code     run code
  -i          enter interactive mode after the script
  -l mod      require module 'mod' into global 'mod'
  -l g=mod    require module 'mod' into global 'g'
  -W          turn warnings on
  -           run standard input
  --          stop handling options
  -v, --version   show the version
  -h, --help      show this text
]=]

local function fail(message, code)
    core.flush()
    core.write_error("mpengine: " .. message .. "\n")
    return code
end

--- The error value as lua shows it, with a traceback.
local function handler(err)
    if type(err) ~= "string" then
        local meta = getmetatable(err)
        if type(meta) == "table" and meta.__tostring then return tostring(err) end
        if type(err) == "number" then
            err = tostring(err)
        else
            return ("(error object is a %s value)"):format(type(err))
        end
    end
    return debug.traceback(err, 2)
end

local function call(f, ...)
    local ok, err = xpcall(f, handler, ...)
    if ok then return 0 end
    if err:find("interrupted!", 1, true) then return fail("interrupted", 130) end
    return fail(err, 1)
end

--- Reads the command line: what to do, or nil and a message.
local function parse(argv)
    local todo, i = { steps = {} }, 1
    local function operand(option)
        local text = argv[i]
        if #text > 2 and option ~= "-e" or #text > 2 then return text:sub(3) end
        i = i + 1
        return argv[i]
    end
    while argv[i] and argv[i]:sub(1, 1) == "-" do
        local option = argv[i]
        if option == "-" then break end
        if option == "--" then i = i + 1 break end
        local short = option:sub(1, 2)
        if option == "-v" or option == "--version" then
            todo.version = true
        elseif option == "-h" or option == "--help" then
            todo.help = true
        elseif option == "-i" then
            todo.interactive = true
        elseif option == "-W" then
            warn("@on")
        elseif option == "-E" then
            todo.ignore_env = true
        elseif short == "-e" or short == "-l" then
            local text = operand(short)
            if not text then return nil, ("'%s' needs argument"):format(short) end
            todo.steps[#todo.steps + 1] = { short, text }
        else
            return nil, ("unrecognized option '%s'"):format(option)
        end
        i = i + 1
    end
    todo.script = i
    return todo
end

local function require_into(text)
    local name, module = text:match("^([^=]+)=(.+)$")
    if not name then name, module = text, text end
    return call(function() _G[name] = require(module) end)
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
    local name = "LUA_INIT_5_4"
    local init = os.getenv(name)
    if not init then name, init = "LUA_INIT", os.getenv("LUA_INIT") end
    if not init then return 0 end
    local f, err
    if init:sub(1, 1) == "@" then f, err = loadfile(init:sub(2)) else f, err = load(init, "=" .. name) end
    return f and call(f) or fail(err or "", 1)
end

local function load_script(name)
    if name == "-" then return load(io.read("a") or "", "=stdin") end
    local file, why = io.open(name, "r")
    local text = file and file:read(0)
    if file and not text and file:seek("end") ~= 0 then why = ("cannot read %s"):format(name) end
    if file then file:close() end
    if why then return nil, ("cannot open %s"):format(why), 2 end
    return loadfile(name)
end

local function run_script(argv, first)
    local name = argv[first]
    arg = {} -- luacheck: globals arg
    for i = 0, #argv do arg[i - first] = argv[i] end
    local f, err, code = load_script(name)
    if not f then return fail(err, code or 1) end
    return call(f, table.unpack(argv, first + 1))
end

--- What is left when the main chunk has ended: tasks, children, output.
local function finish(code)
    local process = require "mpengine.process"
    local ended = call(function()
        process.kill_tasks()
        process.end_children()
    end)
    core.flush()
    return code ~= 0 and code or ended
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
    if todo.version then print("mpengine " .. core.version .. "  (" .. _VERSION .. ")") end
    local script = argv[todo.script]
    if not script and #todo.steps == 0 and not todo.interactive then
        if todo.version then return 0 end
        script = "-"
        argv[todo.script] = script
    end
    core.catch_interrupts()
    local code = todo.ignore_env and 0 or run_init()
    if code == 0 then code = run_steps(todo.steps) end
    if code == 0 and script then code = run_script(argv, todo.script) end
    if todo.interactive then require("mpengine.repl")() end
    return finish(code)
end
