--- os.execute, io.popen and the reading of standard input, so that only the task waits. The files
--- are the io library's own userdata. Only files of popen are read and written here by other means,
--- and standard input when it is not a file on a disk.
local core = require "mpengine.core"
local check = require "mpengine.check"
local order = require "mpengine.monkey.order"
local originals = require "mpengine.monkey.originals"
local process = require "mpengine.process"
local reader = require "mpengine.monkey.reader"
local relay = require "mpengine.monkey.relay"
local child = require "mpengine.subprocess.child"

local io, os = package.loaded.io, package.loaded.os -- the script's io and os, which are patched

local files = {}

local ESPIPE, EBADF = 29, 9

-- The original functions of the io library.
local stock = { read = io.read, lines = io.lines, close = io.close, input = io.input }

local meta = getmetatable(io.stdin)
local methods = {} -- original methods of files
for name, f in pairs(meta.__index) do methods[name] = f end
methods.__close = meta.__close

---@class mpengine.monkey.file
---@field fd integer
---@field reader mpengine.reader? of one that is read
---@field writing mpengine.order of one that is written
---@field child mpengine.subprocess.Child? of popen
local ours = setmetatable({}, { __mode = "k" }) -- file -> its state

-- ---- execute ---------------------------------------------------------------------------------

local function result(how, code)
    if how == "exit" and code == 0 then return true, how, code end
    return nil, how, code
end

local stock_execute = os.execute

local function execute(command)
    if command == nil then return stock_execute() end
    if type(command) ~= "string" and type(command) ~= "number" then
        check.fail("execute", 1, "string", command)
    end
    core.sleep(0) -- a task that is killed starts nothing
    local launched, why, errno = child.launch { argv = { "/bin/sh", "-c", tostring(command) } }
    if not launched then return nil, why, errno end
    local program <close> = launched
    return result(program:wait())
end

-- ---- popen -----------------------------------------------------------------------------------

local function fill_from(state)
    while not state.closed do
        local bytes, why, errno = core.fd_read(state.fd)
        if bytes then return bytes end
        if why ~= "again" then return nil, why, errno end
        core.wait_fd(state.fd, "r")
    end
    error("attempt to use a closed file", 0)
end

local function popen(command, mode)
    if type(command) ~= "string" and type(command) ~= "number" then
        check.fail("popen", 1, "string", command)
    end
    if mode == nil then mode = "r" end
    if mode ~= "r" and mode ~= "w" then check.wrong("popen", 2, "invalid mode") end
    core.let_go()
    local program, why, errno = child.launch {
        argv = { "/bin/sh", "-c", tostring(command) },
        [mode == "r" and "stdout" or "stdin"] = "pipe",
        detach = not process.is_worker,
    }
    if not program then return nil, why, errno end
    local fd = program.stdout or program.stdin
    program.stdout, program.stdin = nil, nil -- they belong to the file from now on
    local file = core.fd_file(fd, mode)
    local state = { fd = fd, child = program, writing = order.new() }
    if mode == "r" then state.reader = reader.new(function() return fill_from(state) end) end
    ours[file] = state
    return file
end

local function write_all(file, state, bytes)
    local at = 1
    while at <= #bytes do
        if state.closed then error("attempt to use a closed file", 0) end
        core.look()
        local last, why, errno = core.fd_write(state.fd, bytes, at)
        if last then at = last + 1
        elseif why ~= "again" then return nil, why, errno
        else core.wait_fd(state.fd, "w") end
    end
    return file
end

local function write(file, state, ...)
    if state.reader then return nil, "Bad file descriptor", EBADF end
    local pieces = { ... }
    for i = 1, select("#", ...) do
        local bytes = pieces[i]
        if type(bytes) ~= "string" and type(bytes) ~= "number" then
            check.fail("write", i, "string", bytes)
        end
        if math.type(bytes) == "float" then pieces[i] = ("%.14g"):format(bytes) end
    end
    state.writing:enter()
    return state.writing:run(write_all, file, state, table.concat(pieces))
end

--- Closes, then waits for the program's exit.
local function close(file, state)
    state.closed = true
    ours[file] = nil
    core.fd_closing(state.fd)
    methods.close(file)
    if not state.child then return true end -- another process has started the program
    return result(state.child:wait())
end

-- ---- standard input --------------------------------------------------------------------------

local stdin = io.stdin

local function fill_from_stdin()
    local bytes = core.buffered(stdin) -- bytes that others have already buffered
    while not bytes do
        core.let_go()
        core.poll({ 0 }, {})
        local why, errno
        bytes, why, errno = core.fd_read(0)
        if not bytes and why ~= "again" then return nil, why, errno end
    end
    return bytes
end

local stdin_reader = reader.new(fill_from_stdin)

--- The reader of a file that is read here rather than by the io library. A file on a disk never
--- waits, and may be positioned by seek.
local function reader_of(file)
    local state = ours[file]
    if state then return state.reader end
    if file ~= stdin or io.type(file) ~= "file" or methods.seek(file, "cur") then return nil end
    return stdin_reader
end

local function is_written(file)
    local state = ours[file]
    return state and not state.reader
end

-- ---- the functions and methods ---------------------------------------------------------------

local function raise_here(ok, ...)
    if ok then return ... end
    local err = ...
    error(err, type(err) == "string" and 2 or 0)
end

local function read(file, ...)
    local from = reader_of(file)
    if from then return raise_here(pcall(from.read, from, "read", ...)) end
    if is_written(file) then return nil, "Bad file descriptor", EBADF end
    return methods.read(file, ...)
end

local function iterator(file, from, formats)
    return function()
        if io.type(file) ~= "file" then error("file is already closed", 2) end
        local values = table.pack(from:read("lines", table.unpack(formats, 1, formats.n)))
        if values[1] == nil and values[2] ~= nil then error(values[2], 2) end
        core.did(true)
        return table.unpack(values, 1, values.n)
    end
end

local function patch_methods()
    local index = meta.__index
    index.read = relay.method("read", read)
    index.lines = relay.method("lines", function(file, ...)
        local from = reader_of(file)
        if from then return iterator(file, from, table.pack(...)) end
        return methods.lines(file, ...)
    end)
    index.write = relay.method("write", function(file, ...)
        local state = ours[file]
        if not state then return methods.write(file, ...) end
        return write(file, state, ...)
    end)
    index.seek = relay.method("seek", function(file, ...)
        if ours[file] then return nil, "Illegal seek", ESPIPE end
        return methods.seek(file, ...)
    end)
    index.close = relay.method("close", function(file)
        local state = ours[file]
        if state then return close(file, state) end
        return methods.close(file)
    end)
    function meta.__close(file, err)
        local state = ours[file]
        if state then close(file, state) else methods.__close(file, err) end
    end
end

local function patch_functions()
    io.popen = relay.call("popen", popen) -- luacheck: ignore 122
    io.read = relay.call("read", function(...) -- luacheck: ignore 122
        local file = stock.input()
        if not reader_of(file) then return stock.read(...) end
        return read(file, ...)
    end)
    io.lines = relay.call("lines", function(name, ...) -- luacheck: ignore 122
        local file = name == nil and stock.input()
        local from = file and reader_of(file)
        if from then return iterator(file, from, table.pack(...)) end
        return stock.lines(name, ...)
    end)
    io.close = relay.call("close", function(file) -- luacheck: ignore 122
        local state = file ~= nil and ours[file]
        if state then return close(file, state) end
        if file == nil then return stock.close() end
        return stock.close(file)
    end)
end

--- Has a file bytes that were read from its program and not taken?
function files.has_unread(file)
    local from = ours[file] and ours[file].reader
    return from ~= nil and from:has_data()
end

--- A file of popen from another process, over a descriptor that does not block; false: files are not patched.
function files.adopt(file, fd, mode)
    if not files.are_patched then return false end
    local state = { fd = fd, writing = order.new() }
    if mode == "r" then state.reader = reader.new(function() return fill_from(state) end) end
    ours[file] = state
    return true
end

--- Replaces io.popen, io.read, io.lines, io.close and the methods of files.
function files.patch_io()
    files.are_patched = true
    originals.keep("file:", meta.__index, patch_methods)
    originals.keep("io.", io, patch_functions)
end

--- Replaces os.execute.
function files.patch_os()
    originals.keep("os.", os, function()
        os.execute = relay.call("execute", execute) -- luacheck: ignore 122
    end)
end

return files
