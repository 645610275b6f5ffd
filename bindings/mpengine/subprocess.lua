--- Other programs, run while only the calling task waits.
local core = require "mpengine.core"
local check = require "mpengine.check"
local child = require "mpengine.subprocess.child"
local command = require "mpengine.subprocess.command"

local subprocess = { Popen = require "mpengine.subprocess.popen" }

local PIECE, PIECE_MAX = 64 << 10, 1 << 20 -- bytes of one read; the first is all that a pipe has at first

--- Writes as much as the pipe takes; closes it after the last byte, or when it has no reader any
--- more.
local function feed(program, input)
    local last, why = core.fd_write(program.stdin, input.bytes, input.at)
    if last then input.at = last + 1 elseif why ~= "again" then input.at = #input.bytes + 1 end
    if input.at > #input.bytes then
        program:drop "stdin"
    elseif not input.grown and #input.bytes - input.at > PIECE then
        input.grown = true
        core.pipe_grow(program.stdin)
    end
end

local function drain(program, name, pieces, size)
    local piece, why = core.fd_read(program[name], size)
    if piece and piece ~= "" then
        pieces[#pieces + 1] = piece
    elseif why ~= "again" then
        program:drop(name)
    end
    if piece and #piece >= PIECE and not pieces.grown then
        pieces.grown = true
        core.pipe_grow(program[name])
    end
end

--- Waits until a pipe is ready, or, when there is none to read, for the exit: the readable and the
--- writable ones.
local function wait_pipes(program, left)
    local readers = { program.stdout }
    readers[#readers + 1] = program.stderr
    if #readers == 0 and not program.stdin then
        program:wait_event(left)
        return {}, {}
    end
    if #readers == 0 then readers[1] = program.pidfd end
    local readable, writable = core.poll(readers, { program.stdin }, left)
    if not readable then return {}, {} end
    return readable, writable
end

local function is_over(program) return not program.stdout and not program.stderr and program:poll() ~= nil end

--- Reads and writes until both outputs are at end of file and the program has exited. When the time is over, it
--- takes what the pipes hold, however much more would come.
local function pump(program, input, outputs, deadline)
    while not is_over(program) do
        local left = deadline and math.max(0, deadline - core.now())
        local readable, writable = wait_pipes(program, left)
        if program.stdin and writable[program.stdin] then feed(program, input) end
        for name, pieces in pairs(outputs) do
            local is_ready = program[name] and readable[program[name]]
            if is_ready then drain(program, name, pieces, (pieces.grown or left == 0) and PIECE_MAX or PIECE) end
            if is_ready and left == 0 and program[name] then drain(program, name, pieces, PIECE) end -- the end of file
        end
        if left == 0 and not is_over(program) then return nil, "timeout" end
    end
    return program.how, program.code
end

local own = {
    stdin = { "a string", function(v) return type(v) == "string" or type(v) == "number" end },
    timeout = { "a number of seconds, 0 or more", function(v) return type(v) == "number" and v >= 0 end },
}

---@class mpengine.subprocess.Result
---@field status integer the exit status; -n when signal n ended it
---@field stdout string
---@field stderr string

--- Runs a program to its end: run{ "ls", "-l", stdin =, timeout =, cwd =, env = }. Without stdin it
--- has this program's; env replaces the whole environment. A timeout, a kill of the task, and the
--- exit of this process kill the program; with detach = true only the timeout does.
---@param opts table the words of the command, and the fields above
---@return mpengine.subprocess.Result? result
---@return string? message "timeout", or why it cannot be started
---@return { stdout: string, stderr: string }? printed until the timeout
function subprocess.run(opts)
    check.type("subprocess.run", 1, opts, "table")
    local spec = command.parse("run", opts, own, "stdin, timeout")
    local deadline = opts.timeout and core.now() + opts.timeout
    local input = opts.stdin and { bytes = tostring(opts.stdin), at = 1 }
    core.sleep(0) -- a task that is killed starts nothing
    spec.stdin = input and "pipe" or "inherit"
    spec.stdout, spec.stderr = "pipe", "pipe"
    local launched, why = child.launch(spec)
    if not launched then return nil, why end
    local program <close> = launched
    if input and input.bytes == "" then program:drop "stdin" end
    local outputs = { stdout = {}, stderr = {} }
    local how, code = pump(program, input, outputs, deadline)
    local printed = { stdout = table.concat(outputs.stdout), stderr = table.concat(outputs.stderr) }
    if not how then
        program.detached = nil
        return nil, code, printed
    end
    printed.status = program:status()
    return printed
end

return subprocess
