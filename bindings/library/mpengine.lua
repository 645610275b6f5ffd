---@meta mpengine
-- luacheck: ignore

--- Annotations of the public API for the Lua language server; never loaded. Add this folder to workspace.library.
---
--- A timeout is in seconds: absent waits for ever, 0 does not wait, negative or NaN raises. What can happen in a correct program is
--- returned as nil and a reason; mistakes raise. What may wait suspends the calling task only, and is marked async.

---@alias mpengine.StartMethod "fork"|"spawn"|"forkserver"
---@alias mpengine.TypeCode "c"|"u"|"b"|"B"|"h"|"H"|"i"|"I"|"l"|"L"|"q"|"Q"|"f"|"d"
---@alias mpengine.Key string|number|boolean

---@class mpengine
---@field _VERSION string "mpengine 0.1.0"
---@field co mpengine.co
---@field http mpengine.http
---@field monkey mpengine.monkey
---@field subprocess mpengine.subprocess
---@field codec mpengine.codec
local mp = {}

-- ---- processes -------------------------------------------------------------------------------

---@class mpengine.Process
---@field pid integer? nil before start
---@field name string may be set
---@field daemon boolean may be set before start
---@field exitcode integer? nil while it runs; n; -signal when a signal ended it
local Process = {}

---@class mpengine.ProcessOptions
---@field target? function what it runs; its error is printed with a traceback and makes the exit code 1
---@field args? table list of arguments; n is their number when there are holes
---@field name? string default "Process-1", in a child "Process-1:2"
---@field daemon? boolean ended with its parent
---@field detach? boolean goes on when the main process is killed; otherwise it gets SIGTERM then, and SIGKILL 5 s later

--- A process that is not yet started. Raises for an unknown or wrong field.
---@param options mpengine.ProcessOptions
---@return mpengine.Process
---@overload fun(target: function, ...: any): mpengine.Process
function mp.Process(options) end

--- Starts it.
--- Raises when it was started already, when something cannot be sent (names the path), or when the system refuses.
function Process:start() end
--- Waits for its end. Raises before start, and for a process that is not a child of this one.
---@async
---@param timeout? number seconds
---@return true? ended
---@return "timeout"? reason
function Process:join(timeout) end
--- Was it started, and has it not ended yet?
---@return boolean
function Process:is_alive() end
--- Sends it SIGTERM. Raises before start.
function Process:terminate() end
--- Sends it SIGKILL. Raises before start.
function Process:kill() end
--- Gives the object up. Raises while the process runs.
function Process:close() end

---@class mpengine.Supervisor.ChildOptions
---@field name string of the process; each once
---@field target function
---@field args? table as those of a process
---@field restart? "always"|"on_error"|"never" default "always"; on_error: unless it ends with exit code 0
---@field ready? boolean|number it calls mp.ready(), after so many seconds at most
---@field stop? number seconds from SIGTERM to SIGKILL, default 10
---@field method? mpengine.StartMethod

---@class mpengine.Supervisor.Settings
---@field [integer] mpengine.Supervisor.ChildOptions
---@field max_restarts? integer of one child within the window, default 5
---@field window? number seconds, default 60
---@field backoff? { [1]: number, [2]: number } the shortest and the longest pause before a restart, default 0.1 and 30 seconds
---@field name? string in reports

---@class mpengine.Supervisor.Status
---@field pid integer? of its process, while there is one
---@field state "new"|"starting"|"running"|"backoff"|"stopping"|"stopped"|"exited"|"failed"
---@field restarts integer how often it was started again
---@field exitcode integer? of the last process that has ended; -signal

--- Keeps processes running: those that end are started again. They are daemons, and may have children.
---@class mpengine.Supervisor
local Supervisor = {}

--- A supervisor of the children that the settings list, not yet started. Raises for wrong settings.
---@param settings mpengine.Supervisor.Settings
---@return mpengine.Supervisor
function mp.Supervisor(settings) end
--- Starts the children in order; waits for one with `ready` before the next one. Raises when a child cannot be
--- started, or has ended too often meanwhile.
---@async
---@return mpengine.Supervisor? self
---@return "closed"? reason it was stopped meanwhile
function Supervisor:start() end
--- Starts them if that was not done; returns when all have ended: by stop, by SIGTERM, or since no child is to
--- run again. Raises when a child has ended too often. Tells the service manager (NOTIFY_SOCKET) when all run and
--- are ready, that it stops on SIGTERM, and by signs of life (WATCHDOG_USEC) that its tasks run.
---@async
function Supervisor:run() end
--- Ends the children, the last one first: SIGTERM, then SIGKILL.
---@async
---@param seconds? number for each child, from one to the other
---@return true
function Supervisor:stop(seconds) end
--- Ends a child and starts it again, also one that waits for its next start or has ended for good.
---@async
---@param name string
---@return true? started
---@return "closed"? reason the supervisor was stopped meanwhile
function Supervisor:restart(name) end
--- How each child is, by its name.
---@return table<string, mpengine.Supervisor.Status>
function Supervisor:status() end
--- In a child of a supervisor: it is ready. Elsewhere nothing.
function mp.ready() end

---@class mpengine.NotifyState
---@field ready? boolean the program is ready, again after reloading
---@field status? string one line, for people
---@field reloading? boolean
---@field stopping? boolean

--- Tells the service manager that has started the program (systemd, Type=notify) its state. From ready = true on a task also
--- tells it, twice in the time of WatchdogSec=, that tasks run, until the main chunk ends. Servers, supervisors and workers do
--- all that themselves.
---@async
---@param state mpengine.NotifyState
---@return true? done nil without such a manager, in a child, and when it cannot be told, which is reported once
---@return string? reason
function mp.notify(state) end

--- The process that calls.
---@return mpengine.Process
function mp.current_process() end
--- The process that has started this one.
---@return mpengine.Process? parent nil in the first process
function mp.parent_process() end
--- The children that run, in the order of their pids.
---@return mpengine.Process[] running
function mp.active_children() end
--- How many processes can compute at a time.
---@return integer processors this process may run on
function mp.cpu_count() end
--- How processes and pools are started from now on, unless a context says otherwise.
---@param name mpengine.StartMethod
function mp.set_start_method(name) end
--- How processes and pools are started now.
---@return mpengine.StartMethod
function mp.get_start_method() end
--- The start methods that there are.
---@return mpengine.StartMethod[]
function mp.get_all_start_methods() end
--- The whole API, with Process, Pool and Supervisor bound to one start method.
---@param method? mpengine.StartMethod
---@return mpengine
function mp.get_context(method) end
--- The program that children of spawn and forkserver are: one with the options of the command or of lua.
---@param path string
function mp.set_executable(path) end
--- Runs a handler as a task each time a signal arrives.
---@param name string|integer "TERM", "SIGTERM" or 15
---@param handler? fun(number: integer)|"default"|"ignore"
---@return function|"default"|"ignore" before
function mp.signal(name, handler) end

-- ---- queues ----------------------------------------------------------------------------------

--- Each constructor takes one table of fields instead of its arguments, with a `name` among them, any
--- bytes; it is shared, and `tostring`, `mpengine dump` and `mp.metrics` show it.
---@class mpengine.Named
---@field name? string

--- Shared. Many producers, many consumers, first in first out.
---@class mpengine.Queue
local Queue = {}

--- A queue. Raises for a wrong size, and when shared memory is exhausted.
---@param maxsize? integer|{ maxsize?: integer, name?: string } 0 (no bound) to 2^31-1
---@return mpengine.Queue
function mp.Queue(maxsize) end
--- A queue without a bound.
---@return mpengine.Queue
function mp.SimpleQueue() end

--- Adds an item at the end.
--- Waits while it is full. Raises for what cannot be sent (names the path), and when shared memory is exhausted.
---@async
---@param v any nil is an item
---@param timeout? number seconds
---@return true? put
---@return "full"|"closed"|nil reason
function Queue:put(v, timeout) end
--- Takes the first item. Waits while it is empty.
---@async
---@param timeout? number seconds
---@return any item
---@return "empty"|"closed"|nil reason closed: and drained
function Queue:get(timeout) end
--- put with a timeout of 0: never waits.
---@return true?, "full"|"closed"|nil
function Queue:put_nowait(v) end
--- get with a timeout of 0: never waits.
---@return any, "empty"|"closed"|nil
function Queue:get_nowait() end
--- The number of items now.
---@return integer
function Queue:qsize() end
--- Are there no items now?
---@return boolean
function Queue:empty() end
--- Has it as many items as it may have? Never, without a bound.
---@return boolean
function Queue:full() end
--- Closes it for all processes: puts fail, gets go on until it is drained.
function Queue:close() end
--- Was it closed? It may have items still.
---@return boolean
function Queue:is_closed() end
--- `for v in q:iter() do`: until it is closed and drained. Each step may wait; a nil item raises.
---@return fun(): any
function Queue:iter() end

---@class mpengine.JoinableQueue : mpengine.Queue
local JoinableQueue = {}

--- A queue that counts what was put and is not done yet.
---@param maxsize? integer|{ maxsize?: integer, name?: string }
---@return mpengine.JoinableQueue
function mp.JoinableQueue(maxsize) end
--- An item that was got is done. Raises when called more often than there were items.
function JoinableQueue:task_done() end
--- Waits until all that was put is done.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function JoinableQueue:join(timeout) end

--- Shared. One end of a pipe. Using an end that this process has closed raises.
---@class mpengine.PipeEnd
local PipeEnd = {}

--- The two ends of a new pipe.
---@param duplex? boolean|{ duplex?: boolean, name?: string } default true; false: the first end receives, the second sends
---@return mpengine.PipeEnd
---@return mpengine.PipeEnd
function mp.Pipe(duplex) end
--- Sends a value; never waits.
---@return true?
---@return "closed"? reason no process holds the other end
function PipeEnd:send(v) end
--- Sends a string as it is, for recv_bytes.
---@param s string
---@return true?
---@return "closed"? reason
function PipeEnd:send_bytes(s) end
--- Waits for a value. "closed": no process has the other end open any more, and all was received.
---@async
---@param timeout? number seconds
---@return any
---@return "timeout"|"closed"|nil reason
function PipeEnd:recv(timeout) end
--- Waits for a string that send_bytes has sent. Raises when something else than a string came.
---@async
---@param timeout? number seconds
---@return string?
---@return "timeout"|"closed"|nil reason
function PipeEnd:recv_bytes(timeout) end
--- Is there something to receive, or the end of file? Does not wait without a timeout.
---@async
---@param timeout? number seconds
---@return boolean
function PipeEnd:poll(timeout) end
--- Closes this end in this process. A second call is harmless; any other use raises.
function PipeEnd:close() end

--- The ready ones among processes, locks, semaphores, queues, pipe ends, events, async results, tasks and objects of mp.co:
--- those of which a try would succeed now. Takes nothing. {} on timeout. Raises for a Condition or a Barrier.
---@async
---@generic T
---@param list T[]
---@param timeout? number seconds
---@return T[]
function mp.wait(list, timeout) end

-- ---- arrays, values, dicts, lists ------------------------------------------------------------

--- Shared. Contiguous C values. Reading outside 1..#a gives nil, writing there raises, as does a value that does not fit.
---@class mpengine.RawArray
---@field [integer] number|string|mpengine.StructRef
---@operator len: integer
local RawArray = {}

---@class mpengine.Array : mpengine.RawArray, mpengine.Lockable
local Array = {}

--- Some elements of an array, as an object that can be sent; it keeps the array. Its lock is the array's.
---@class mpengine.ArrayView : mpengine.RawArray, mpengine.Lockable

--- A type of elements with several fields, in the layout that C has for such a struct. It can be sent.
---@class mpengine.Struct
---@field layout string "x:d,y:d,name:c16", as the functions of C take it
---@field size integer bytes of an element
local Struct = {}

--- A name, a type code, and for a field that is an array the number of its elements. "s16" stands for a text of at most
--- 16 bytes, and is the same as "c", 16. The type may be a struct.
---@alias mpengine.Field { [1]: string, [2]: mpengine.TypeCode|string|mpengine.Struct|mpengine.Field[], [3]?: integer }

--- The type of elements with fields, for Array and Value.
---@param fields mpengine.Field[]
---@return mpengine.Struct
function mp.Struct(fields) end
--- The fields in their order; offset is in bytes, from 0 on, and size the bytes of an element; count is absent for a
--- field that is no array.
---@return { name: string, type: mpengine.TypeCode|mpengine.Struct, count?: integer, offset: integer, size: integer }[]
function Struct:fields() end

--- An element of an array of structs, the value of one, or a struct in it: r.x reads a field, r.x = v writes it. It keeps
--- the array, and belongs to its process. A key that is no field raises.
---@class mpengine.StructRef
---@field [string] number|string|mpengine.FieldRef|mpengine.StructRef
local StructRef = {}
--- A copy of all fields, of one moment: waits for the lock of the array, if it has one.
---@async
---@return table
function StructRef:get() end
--- Writes some of the fields, all or nothing; waits for the lock of the array, if it has one.
---@async
---@param fields table
function StructRef:set(fields) end

--- A field that is an array, of one element.
---@class mpengine.FieldRef
---@field [integer] number|string
---@operator len: integer
local FieldRef = {}
--- The elements of the field, as a list.
---@return table
function FieldRef:totable() end
--- Writes the elements of the field, all or nothing.
---@param list table of as many elements
function FieldRef:set(list) end

---@alias mpengine.ElementType mpengine.TypeCode|mpengine.Struct|mpengine.Field[]
---@alias mpengine.ArrayFields { type: mpengine.ElementType, size?: integer|table|string, rows?: integer, cols?: integer, name?: string }

--- An array with a lock of its own. Raises for an unknown type, and for elements that do not fit it.
---@param type mpengine.ElementType|mpengine.ArrayFields
---@param init? integer|table|string size (zeroed), elements, or for "c" and "u" a text
---@return mpengine.Array
function mp.Array(type, init) end
--- An array without a lock. Raises as Array does.
---@param type mpengine.ElementType|mpengine.ArrayFields
---@param init? integer|table|string
---@return mpengine.RawArray
function mp.RawArray(type, init) end
--- A view of one field of all elements, which are structs; of a field that is an array, of its element k. Nothing is
--- copied.
---@param path string a name, or "at.x" for a field of a field
---@param k? integer
---@return mpengine.ArrayView
function RawArray:field(path, k) end
--- The elements i to j, all by default, as a list.
---@param i? integer
---@param j? integer
---@return table
function RawArray:totable(i, j) end
--- Writes the elements of a list from `at` on, all or nothing: everything is converted first.
---@param list table|mpengine.RawArray|mpengine.List
---@param at? integer default 1
---@overload fun(self, i: integer, j: integer, v: number|string|table) the element in row i and column j
function RawArray:set(list, at) end
--- A view of the elements that `for k = i, j, step` names. Nothing is copied.
---@param i? integer default 1
---@param j? integer default #a
---@param step? integer default 1; below 0: backwards
---@return mpengine.ArrayView
function RawArray:view(i, j, step) end
--- A view of all elements as rows, which lie one after the other; without cols in one dimension.
---@param rows integer
---@param cols? integer
---@return mpengine.ArrayView
function RawArray:reshape(rows, cols) end
--- The number of rows and columns.
---@return integer rows or the length of an array of one dimension
---@return integer? cols
function RawArray:shape() end
--- A view of row i of two dimensions. Raises when there is none.
---@param i integer
---@return mpengine.ArrayView
function RawArray:row(i) end
--- A view of column j of two dimensions. Raises when there is none.
---@param j integer
---@return mpengine.ArrayView
function RawArray:col(j) end
--- The element in row i and column j; nil outside.
---@param i integer
---@param j integer
---@return number|string|mpengine.StructRef|nil
function RawArray:get(i, j) end
--- The sum of all elements. Integers wrap around at 64 bits; floats are added as doubles.
---@return number
function RawArray:sum() end
--- The least element; NaN when there is one; nil of no elements.
---@return number?
function RawArray:min() end
--- The greatest element; NaN when there is one; nil of no elements.
---@return number?
function RawArray:max() end
--- The sum of the products with an array of the same type and length; see sum.
---@param b mpengine.RawArray
---@return number
function RawArray:dot(b) end
--- Multiplies all elements by k. Raises, and changes nothing, when a product does not fit.
---@param k number
function RawArray:scale(k) end
--- Adds k * x to all elements, with x as it was before. Raises, and changes nothing, when a result does not fit.
---@param k number
---@param x mpengine.RawArray of the same type and length
function RawArray:axpy(k, x) end
--- Sets all elements to v. Raises when it does not fit the type.
---@param v number|string|table
function RawArray:fill(v) end
--- The bytes of the elements i to j, all by default.
---@param i? integer
---@param j? integer
---@return string bytes
function RawArray:string(i, j) end
--- Copies bytes to the elements from `at` on, 1 by default. Raises when they do not fit in.
---@param bytes string whole elements
---@param at? integer
function RawArray:set_string(bytes, at) end
--- Adds to an element, atomically. Raises when the sum does not fit.
---@param i integer
---@param delta number
---@return number new
function RawArray:add(i, delta) end
--- Sets an element if it is `expected`, atomically.
---@return boolean done
---@return number|string|nil current when it was not
function RawArray:compare_exchange(i, expected, desired) end

---@class mpengine.Lockable
local Lockable = {}
--- Its lock, an RLock.
---@return mpengine.RLock
function Lockable:get_lock() end
--- Acquires its lock until the end of the scope: `local _ <close> = x:guard()`.
---@async
---@param timeout? number seconds
---@return mpengine.Guard?
---@return "owner_died"|"timeout"|nil
function Lockable:guard(timeout) end
--- Acquires its lock.
---@async
---@param timeout? number seconds
---@return true?
---@return "owner_died"|"timeout"|nil
function Lockable:acquire(timeout) end
--- Releases its lock. Raises when the caller does not hold it.
function Lockable:release() end

---@class mpengine.RawValue
---@field value number|string|mpengine.StructRef
local RawValue = {}

---@class mpengine.Value : mpengine.RawValue, mpengine.Lockable

---@alias mpengine.ValueFields { type: mpengine.ElementType, value?: number|string|table, name?: string }

--- A value with a lock of its own. Raises for an unknown type, and for a value that does not fit it.
---@param type mpengine.ElementType|mpengine.ValueFields
---@param init? number|string|table
---@return mpengine.Value
function mp.Value(type, init) end
--- A value without a lock. Raises as Value does.
---@param type mpengine.ElementType|mpengine.ValueFields
---@param init? number|string|table
---@return mpengine.RawValue
function mp.RawValue(type, init) end
--- Adds to it, atomically.
---@param delta number
---@return number new
function RawValue:add(delta) end
--- Sets it if it is `expected`, atomically.
---@return boolean done
---@return number|string|nil current
function RawValue:compare_exchange(expected, desired) end

--- Shared. `d[k]`, `d[k] = v`, `#d`, `pairs(d)` (a snapshot). Method names are reached by get and set only. What is got is a copy.
---@class mpengine.Dict
---@field [mpengine.Key] any
---@operator len: integer
local Dict = {}

--- A dict with the entries of the table. Raises when one cannot be sent.
---@param t? table
---@param fields? mpengine.Named
---@return mpengine.Dict
function mp.Dict(t, fields) end
--- The value of a key, or the default.
---@param k mpengine.Key
---@param default? any
---@return any
function Dict:get(k, default) end
--- Sets a key, also one with the name of a method. Raises when the value cannot be sent.
---@param k mpengine.Key
---@param v any nil removes
function Dict:set(k, v) end
--- Is the key there?
---@return boolean
function Dict:has(k) end
--- The value of a key. An absent one is set to v first, in one step.
---@return any value what is there, or v
function Dict:setdefault(k, v) end
--- Removes a key: its value, or the default.
---@return any value
function Dict:pop(k, default) end
--- Removes some entry.
---@return mpengine.Key? key nil: empty
---@return any value
function Dict:popitem() end
--- All keys, at one moment.
---@return mpengine.Key[]
function Dict:keys() end
--- All values, at one moment.
---@return any[]
function Dict:values() end
--- All pairs of key and value, at one moment.
---@return { [1]: mpengine.Key, [2]: any }[]
function Dict:items() end
--- Sets many keys, in one step for all readers: all entries or none.
---@param t table|mpengine.Dict
function Dict:update(t) end
--- Removes all entries, in one step for all readers.
function Dict:clear() end
--- All entries at one moment, as a plain table.
---@return table
function Dict:copy() end
--- Adds n to a number, atomically; absent counts as 0. Raises when the value is no number.
---@param k mpengine.Key
---@param n? number default 1
---@return number new
function Dict:incr(k, n) end
--- Sets `d[k] = f(d[k])`, atomically. f may run again when another process came first; its error leaves d as it was.
---@async
---@param f fun(value: any): any
---@return any new
function Dict:modify(k, f) end

--- Shared. A dict of a fixed size, which it never exceeds: what was not used lately leaves. What is got is a copy.
---@class mpengine.Cache
local Cache = {}

---@class mpengine.CacheFields
---@field size? integer|string bytes, or a text as "64M"; all is taken at once; default "64M"
---@field ttl? number seconds to live of an item; default: for ever
---@field name? string

--- A cache of a fixed size. Raises for a size that is too small.
---@param fields? mpengine.CacheFields|integer|string
---@param ttl? number
---@return mpengine.Cache
function mp.Cache(fields, ttl) end
--- The value of a key. Counts as a use.
---@param k mpengine.Key
---@return any value nil: absent, or expired
function Cache:get(k) end
--- Sets a key. Raises when v is nil, or larger than the cache: then nothing has changed.
---@param k mpengine.Key
---@param v any
---@param ttl? number seconds, more than 0; math.huge: for ever; default: that of the cache
---@return true
function Cache:set(k, v, ttl) end
--- Sets a key that is absent.
---@param ttl? number
---@return boolean done
function Cache:add(k, v, ttl) end
--- Sets a key that is there.
---@param ttl? number
---@return boolean done
function Cache:replace(k, v, ttl) end
--- Removes a key.
---@return boolean was_there
function Cache:delete(k) end
--- Gives a key a new time to live.
---@param ttl? number default: that of the cache
---@return boolean is_there
function Cache:touch(k, ttl) end
--- How long a key is still kept.
---@return number? seconds math.huge: it never expires; nil: absent
function Cache:ttl(k) end
--- Adds to a number, atomically. A key that is there keeps its time to live. Raises when the value is no number, or
--- absent and init too.
---@param k mpengine.Key
---@param n? number default 1
---@param init? number the value of an absent key, to which n is added
---@param ttl? number of an absent key
---@return number new
function Cache:incr(k, n, init, ttl) end
--- The value of a key, or that of f(k), which is kept. One task of all processes runs f; the others wait for
--- its result. An error of f is raised in all of them, and nothing is kept. If the task that runs f is killed
--- or cancelled, one of the others runs it.
---@async
---@param k mpengine.Key
---@param f fun(k: mpengine.Key): any not nil
---@param opts? { ttl?: number, stale?: number, timeout?: number } stale: an item that expired no more than so many seconds ago is good for all but the one that runs f; timeout: of those that wait
---@return any value
---@return string? reason "timeout"
function Cache:fetch(k, f, opts) end
--- Removes all entries, in one step for all readers.
function Cache:clear() end
--- Some keys, or all, of what has not expired.
---@param n? integer at most so many; default: all
---@return mpengine.Key[]
function Cache:keys(n) end
--- Its size and what is in it, and counts since it was made.
---@return { size: integer, entries: integer, bytes: integer, hits: integer, misses: integer, evictions: integer, expired: integer, computed: integer, waited: integer }
function Cache:stats() end

--- Shared. `l[i]`, `#l`, `ipairs(l)`; `l[#l + 1] = v` appends; `pairs(l)` walks a snapshot.
---@class mpengine.List
---@field [integer] any
---@operator len: integer
local List = {}

--- A list with the items of the table. Raises when one cannot be sent.
---@param t? table
---@param fields? mpengine.Named
---@return mpengine.List
function mp.List(t, fields) end
--- Adds an item at the end.
function List:append(v) end
--- Adds an item before item i; beyond the end, at the end.
---@param i integer -1 is before the last
function List:insert(i, v) end
--- Removes item i: its value, or nil when there is none.
---@param i? integer default -1, the last
---@return any
function List:pop(i) end
--- Removes the first item equal to v. Raises when there is none.
function List:remove(v) end
--- Adds all items of a list at the end, in one step.
---@param list table|mpengine.RawArray|mpengine.List
function List:extend(list) end
--- The position of the first item equal to v; nil when there is none.
---@return integer?
function List:index(v) end
--- Sorts the items; equal ones keep their order. Raises an error of less, and changes nothing then.
---@param less? fun(a: any, b: any): boolean
function List:sort(less) end
--- Reverses the order, in one step.
function List:reverse() end
--- Removes all items, in one step.
function List:clear() end
--- All items at one moment, as a plain table.
---@return table
function List:copy() end

--- Needs no server process: hands out the shared objects.
---@class mpengine.Manager
local Manager = {}

---@class mpengine.RemoteOptions
---@field namespace? string "default"
---@field key_file? string a file that only its owner can read: the key that signs tasks
---@field ca? string a file of certificates, for rediss://
---@field timeout? number seconds that a call outlasts an outage of the server, 30
---@field lease? number seconds after which a process that is not heard of is dead, 15; 2 to 600

--- The objects of a manager of a URL are made by name; the arguments of the local constructor follow it. Their
--- methods are those of the local objects. Waits suspend only the task. Errors: kind "disconnected",
--- "maybe_applied" (docs/remote.md).
---@class mpengine.RemoteManager
---@field dict fun(self, name: string, t?: table): mpengine.Dict
---@field Namespace fun(self, name: string, t?: table): mpengine.Dict
---@field list fun(self, name: string, t?: table): mpengine.List
---@field Queue fun(self, name: string, maxsize?: integer): mpengine.Queue
---@field SimpleQueue fun(self, name: string): mpengine.Queue
---@field JoinableQueue fun(self, name: string, maxsize?: integer): mpengine.JoinableQueue
---@field Lock fun(self, name: string): mpengine.Lock its field fence grows with each grant
---@field RLock fun(self, name: string): mpengine.RLock
---@field Semaphore fun(self, name: string, n?: integer): mpengine.Semaphore
---@field BoundedSemaphore fun(self, name: string, n?: integer): mpengine.Semaphore
---@field Event fun(self, name: string): mpengine.Event
---@field Condition fun(self, name: string, lock?: mpengine.Lock|mpengine.RLock): mpengine.Condition
---@field Barrier fun(self, name: string, parties?: integer, action?: function|string, timeout?: number): mpengine.Barrier
---@field Array fun(self, name: string, type?: mpengine.ElementType, init?: integer|table|string): mpengine.Array
---@field Value fun(self, name: string, type?: mpengine.ElementType, init?: any): mpengine.Value
---@field Cache fun(self, name: string, options?: { size: integer|string, ttl: number? }): mpengine.Cache
---@field RateLimiter fun(self, name: string, options?: { rate: number, burst: number? }): mpengine.RateLimiter
---@field Pool fun(self, options?: table): mpengine.Pool
---@field shutdown fun(self) nothing more is handed out

--- Without a URL the shared objects of this program; with one the objects of a Redis server, for programs on any
--- machine. Raises when it cannot connect.
---@overload fun(url: string, options?: mpengine.RemoteOptions): mpengine.RemoteManager
---@return mpengine.Manager
function mp.Manager() end
--- As mp.Dict.
---@return mpengine.Dict
function Manager:dict(t) end
--- As mp.Dict.
---@return mpengine.Dict
function Manager:Dict(t) end
--- As mp.List.
---@return mpengine.List
function Manager:list(t) end
--- As mp.List.
---@return mpengine.List
function Manager:List(t) end
--- As mp.Dict: a dict whose fields are used as variables.
---@return mpengine.Dict
function Manager:Namespace(t) end
--- As mp.Cache.
---@param fields? mpengine.CacheFields|integer|string
---@param ttl? number
---@return mpengine.Cache
function Manager:Cache(fields, ttl) end
--- As mp.Queue.
---@return mpengine.Queue
function Manager:Queue(maxsize) end
--- As mp.SimpleQueue.
---@return mpengine.Queue
function Manager:SimpleQueue() end
--- As mp.JoinableQueue.
---@return mpengine.JoinableQueue
function Manager:JoinableQueue(maxsize) end
--- As mp.Array.
---@return mpengine.Array
function Manager:Array(code, init) end
--- As mp.Value.
---@return mpengine.Value
function Manager:Value(code, init) end
--- As mp.Lock.
---@return mpengine.Lock
function Manager:Lock() end
--- As mp.RLock.
---@return mpengine.RLock
function Manager:RLock() end
--- As mp.Semaphore.
---@return mpengine.Semaphore
function Manager:Semaphore(n) end
--- As mp.BoundedSemaphore.
---@return mpengine.Semaphore
function Manager:BoundedSemaphore(n) end
--- As mp.RateLimiter.
---@return mpengine.RateLimiter
function Manager:RateLimiter(settings, burst) end
--- As mp.Event.
---@return mpengine.Event
function Manager:Event() end
--- As mp.Condition.
---@return mpengine.Condition
function Manager:Condition(lock) end
--- As mp.Barrier.
---@return mpengine.Barrier
function Manager:Barrier(parties, action, timeout) end
--- As mp.Pool.
---@return mpengine.Pool
function Manager:Pool(options) end
--- Nothing more is handed out; what was stays usable.
function Manager:shutdown() end

-- ---- synchronisation -------------------------------------------------------------------------

--- Holds until its <close> variable goes.
---@class mpengine.Guard
local Guard = {}
--- Releases now; harmless when released.
function Guard:release() end

--- Shared. Any task may release it.
---@class mpengine.Lock
local Lock = {}

--- A lock that is free.
---@param fields? mpengine.Named
---@return mpengine.Lock
function mp.Lock(fields) end
--- Waits until it is free, and holds it.
---@async
---@param timeout? number seconds
---@return true? held
---@return "timeout"|"owner_died"|nil why owner_died: held, and the last owner's process died with it
function Lock:acquire(timeout) end
--- Releases it. Raises when it is not held; an RLock when not held by this task.
function Lock:release() end
--- Does any task hold it?
---@return boolean
function Lock:locked() end
--- Acquires it until the end of the scope: `local _ <close> = lock:guard()`.
---@async
---@param timeout? number seconds
---@return mpengine.Guard?
---@return "timeout"|"owner_died"|nil
function Lock:guard(timeout) end
--- Calls f(...) while it is held.
---@async
---@return any ...
function Lock:with(f, ...) end

--- Shared. Its owner may acquire it again, and only the owner may release it.
---@class mpengine.RLock : mpengine.Lock

--- A lock that its owner may acquire several times, and releases as often.
---@param fields? mpengine.Named
---@return mpengine.RLock
function mp.RLock(fields) end

--- Shared. Permits of a process return at its death.
---@class mpengine.Semaphore : mpengine.Lock
local Semaphore = {}

--- A semaphore with n permits.
---@param n? integer|{ value?: integer, name?: string } default 1
---@return mpengine.Semaphore
function mp.Semaphore(n) end
--- A semaphore with n permits, and never more: releasing beyond n raises.
---@param n? integer|{ value?: integer, name?: string } default 1
---@return mpengine.Semaphore
function mp.BoundedSemaphore(n) end
--- The number of free permits now.
---@return integer
function Semaphore:get_value() end

--- Shared. A bucket of tokens for all processes, which is full at first.
---@class mpengine.RateLimiter
local RateLimiter = {}

---@class mpengine.RateLimiter.Settings
---@field rate number tokens a second, above 0, at most 1e9
---@field burst? number tokens that it holds at most; default max(1, rate)
---@field name? string

--- Lets so many tokens pass a second: mp.RateLimiter{ rate = 10, burst = 20 }, or mp.RateLimiter(10, 20).
---@param settings mpengine.RateLimiter.Settings|number
---@param burst? number
---@return mpengine.RateLimiter
function mp.RateLimiter(settings, burst) end
--- Takes tokens; waits until they are there. Waiters are served in the order in which they came.
--- Raises when n is more than the burst.
---@async
---@param n? number default 1, above 0
---@param timeout? number seconds
---@return true? taken
---@return "timeout"? why then it has taken none
function RateLimiter:acquire(n, timeout) end
--- Takes tokens if they are there and nothing waits for them.
---@param n? number default 1, above 0
---@return boolean taken
function RateLimiter:try(n) end
--- Tokens that are there now.
---@return number
function RateLimiter:tokens() end
--- How fast tokens come.
---@return number tokens a second
function RateLimiter:rate() end
--- How many tokens there may be at once.
---@return number tokens
function RateLimiter:burst() end

--- Shared.
---@class mpengine.Event
local Event = {}

--- An event that is not set.
---@param fields? mpengine.Named
---@return mpengine.Event
function mp.Event(fields) end
--- Sets it: all that wait go on.
function Event:set() end
--- Unsets it: later waits wait.
function Event:clear() end
--- Is it set now?
---@return boolean
function Event:is_set() end
--- Waits until it is set.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function Event:wait(timeout) end

--- Shared. acquire, release, locked, guard and with are those of its lock.
---@class mpengine.Condition : mpengine.Lock
local Condition = {}

--- A condition with a lock of its own, or that one.
---@param lock? mpengine.Lock|{ lock?: mpengine.Lock, name?: string } default: an RLock of its own
---@return mpengine.Condition
function mp.Condition(lock) end
--- Gives the lock up, waits, and takes it back. Raises unless this task holds it.
---@async
---@param timeout? number seconds, for the notification
---@return true?
---@return "timeout"|"owner_died"|nil
function Condition:wait(timeout) end
--- Waits until pred() is true. Raises when the caller does not hold the lock.
---@async
---@param pred fun(): any called with the lock held
---@param timeout? number seconds
---@return any value what pred gave
---@return "timeout"? reason
function Condition:wait_for(pred, timeout) end
--- Wakes n tasks that wait, 1 by default. Raises unless this task holds the lock.
---@param n? integer default 1
function Condition:notify(n) end
--- Wakes all that wait. Raises when the caller does not hold the lock.
function Condition:notify_all() end
--- Its lock.
---@return mpengine.Lock
function Condition:get_lock() end

--- Shared.
---@class mpengine.Barrier
---@field parties integer
---@field n_waiting integer
---@field broken boolean
local Barrier = {}

--- A barrier for so many tasks of any processes.
---@param parties integer|{ parties: integer, action?: function, timeout?: number, name?: string } 1 to 65535
---@param action? function called by the last to arrive before any task continues; its error breaks the barrier
---@param timeout? number seconds, the default of wait
---@return mpengine.Barrier
function mp.Barrier(parties, action, timeout) end
--- Waits until as many tasks as there are parties wait here.
---@async
---@param timeout? number seconds; running out breaks the barrier
---@return integer? index 1..parties
---@return "broken"? reason
function Barrier:wait(timeout) end
--- Makes it usable again; those that wait now get "broken".
function Barrier:reset() end
--- Breaks it, until reset: all waits end with "broken".
function Barrier:abort() end

-- ---- pools -----------------------------------------------------------------------------------

--- What a failed task raises. tostring has message, pid and traceback.
---@class mpengine.Error
---@field kind "error"|"worker_died"|"timeout"|"terminated"|"cancelled"|"killed"
---@field message string
---@field traceback string? of the worker
---@field value any what was raised
---@field index integer? of a map: which item
---@field item any
---@field pid integer?
---@field signal integer?
---@field exitcode integer?
---@field reason any of a kill

---@class mpengine.AsyncResult
local AsyncResult = {}
--- Waits for the result. Raises the task's error.
---@async
---@param timeout? number seconds
---@return any ... the results; or nil, "timeout"
function AsyncResult:get(timeout) end
--- Waits until it is there; raises no error of the call.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function AsyncResult:wait(timeout) end
--- Is it there?
---@return boolean
function AsyncResult:ready() end
--- Is it there, and no error? Raises before it is ready.
---@return boolean
function AsyncResult:successful() end
--- Cancels the call: true when it will give no result: a queued task never runs, a running one is stopped.
---@return boolean
function AsyncResult:cancel() end

---@class mpengine.ApplyOptions
---@field callback? fun(...: any)
---@field error_callback? fun(err: mpengine.Error)
---@field timeout? number seconds of a call or item, from when a worker begins it
---@field retries? integer how often it runs again when its worker died or it ran out of time

---@class mpengine.MapOptions : mpengine.ApplyOptions
---@field chunksize? integer items per task; default: learned
---@field progress? true|"lines"|fun(done: integer, total: integer?, failed: integer)
---@field shared? any sent once to each worker: f(item, shared); in a starmap f(shared, ...)
---@field pack? boolean an item's result is a table of all its results, with n
---@field return_exceptions? boolean an item's error object is its result

---@class mpengine.ImapOptions : mpengine.MapOptions
---@field ahead? integer items between the source and the loop, at most

---@class mpengine.PoolOptions
---@field processes? integer 1 to 256, default cpu_count()
---@field initializer? function called in each new worker
---@field initargs? table
---@field maxtasksperchild? integer
---@field name? string shown by tostring and in dumps

--- Worker processes that run functions. `local pool <close> =` terminates it at the end of the scope.
---@class mpengine.Pool
local Pool = {}

--- A pool of worker processes, as many as there are processors by default.
---@param options? integer|mpengine.PoolOptions
---@return mpengine.Pool
function mp.Pool(options) end
--- Waits for the results of f; raises its error.
---@async
---@param args? table
---@return any ...
function Pool:apply(f, args) end
--- As apply, and returns at once.
---@param args? table
---@param opts? mpengine.ApplyOptions
---@return mpengine.AsyncResult
function Pool:apply_async(f, args, opts) end
--- Waits for the list of results; raises the error of the first item that failed.
---@async
---@param list table
---@param opts? mpengine.MapOptions
---@return table
function Pool:map(f, list, opts) end
--- As map, and returns at once: get gives the list.
---@param opts? mpengine.MapOptions
---@return mpengine.AsyncResult
function Pool:map_async(f, list, opts) end
--- As map; items are lists of arguments.
---@async
---@param list table[]
---@param opts? mpengine.MapOptions
---@return table
function Pool:starmap(f, list, opts) end
--- As starmap, and returns at once: get gives the list.
---@param opts? mpengine.MapOptions
---@return mpengine.AsyncResult
function Pool:starmap_async(f, list, opts) end
--- `for i, v, reason in pool:imap(f, source) do`: in order. Each step may wait, and raises the item's error.
---@param source any list, shared list or array, or iterator; state and first value may stand behind it
---@param ... any the rest of what stands in a for loop; mpengine.ImapOptions last
---@return fun(): integer?, any, any
function Pool:imap(f, source, ...) end
--- The same as they come; i is the item's index.
---@param source any
---@param ... any
---@return fun(): integer?, any, any
function Pool:imap_unordered(f, source, ...) end
--- Takes no more tasks.
function Pool:close() end
--- Kills the workers; what is unfinished fails with kind "terminated".
function Pool:terminate() end
--- Waits for the workers. Raises before close or terminate.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function Pool:join(timeout) end
--- Starts workers, or lets some end when they have no task, until there are n.
---@param n integer
function Pool:resize(n) end

---@class mpengine.PoolWorker
---@field index integer
---@field pid integer
---@field name string
---@field state "starting"|"idle"|"busy"
---@field task integer? the number of the one it runs
---@field seconds number? since when
---@field tasks integer calls and items it has run
---@field busy number seconds it ran them
---@field memory integer? resident bytes

---@class mpengine.PoolStats
---@field workers mpengine.PoolWorker[]
---@field outstanding integer tasks on the queue or running
---@field queued integer tasks on the queue
---@field completed integer
---@field closed boolean

--- Its workers, and what is queued, runs and has failed.
---@return mpengine.PoolStats
function Pool:stats() end

-- ---- the rest --------------------------------------------------------------------------------

--- Waits; other tasks run meanwhile.
---@async
---@param seconds number
function mp.sleep(seconds) end
--- The time for measuring how long something takes.
---@return number seconds of the monotonic clock
function mp.now() end

---@class mpengine.ProgressOptions
---@field total? integer how many items there are; known for lists
---@field label? string before the bar

--- for x in mp.progress(items): shows on standard error how far the loop is. A bar in the last rows of a terminal, below
--- whatever is printed; a line every 5 seconds elsewhere. Gives all values of an iterator, whose other values may come before the
--- options, as in mp.progress(pairs(t)). The loop variable is an item, for lists as well.
---@generic T
---@param items T[]|mpengine.List|mpengine.Array|fun(state: any, control: any): T
---@param options? mpengine.ProgressOptions
---@return fun(): T
function mp.progress(items, options) end

---@class mpengine.RetryOptions
---@field times? number how often f is called at most, default 3; math.huge: until it returns
---@field backoff? number|{ [1]: number, [2]: number } the first pause in seconds, or the first and the longest one,
---default 0.1 and 30; each is twice as long as the one before
---@field jitter? number from 0 to 1, default 0.25: the part by which a pause varies
---@field on? string|string[]|fun(err: any, attempt: integer): any which errors to call again for: a kind, kinds, or a
---function that tells; default all. "error" is the kind of whatever is no error object

--- Calls f() until it returns: its results. After an error it suspends the task for a pause and calls f again;
--- raises the last error. Raises a kill and other cancellations of the task, and signals, at once.
---@async
---@generic T
---@param f fun(): T...
---@param options? mpengine.RetryOptions
---@return T...
function mp.retry(f, options) end

--- Tables with this metatable can be sent, between processes that have registered it.
---@generic T: table
---@param name string
---@param metatable T
---@return T
function mp.register(name, metatable) end

--- Named memory that unrelated programs can open; it stays until a program unlinks it.
---@class mpengine.SharedMemory
---@field name string
---@field size integer bytes
local SharedMemory = {}

--- A block of bytes with a name, for other programs, too. Raises when the name exists (create) or does not (open).
---@param options { name: string?, create: boolean?, size: integer? }
---@return mpengine.SharedMemory
function mp.SharedMemory(options) end
--- The bytes i to j, all by default.
---@param i? integer
---@param j? integer
---@return string bytes
function SharedMemory:read(i, j) end
--- Copies bytes to position `at`. Raises when they do not fit in.
---@param bytes string
---@param at? integer default 1
function SharedMemory:write(bytes, at) end
--- Gives it up in this process; other processes keep it.
function SharedMemory:close() end
--- Removes its name: no process can attach to it any more.
function SharedMemory:unlink() end

--- Gives a shared object a name in the arena, which keeps it alive; nil takes the name back. Raises
--- when the name is taken, or, with nil, when nothing has it.
---@param name string 1 to 255 bytes
---@param object? any
function mp.name(name, object) end
--- The object of a name, as soon as there is one.
---@async
---@param name string
---@param timeout? number seconds
---@return any object, "timeout"? reason
function mp.find(name, timeout) end

---@class mpengine.Stats
---@field objects { kind: string, handle: integer, holders: integer, waiters: integer, bytes: integer, depth: integer, name?: string, place?: string, cache?: table }[] cache: what the stats of a Cache say
---@field processes { pid: integer, name: string, sleeping: boolean }[]
---@field arena { limit: integer, committed: integer, used: integer } bytes
---@field supervisors { name: string, state: string, children: table<string, mpengine.Supervisor.Status> }[] of this process

--- What the program has in shared memory, and its processes.
---@return mpengine.Stats
function mp.stats() end
--- What `mpengine dump` prints of this program: every process and task, what it waits for and where, the
--- objects and pools. The processes are asked; one that does not answer within a second is shown as the
--- kernel and shared memory show it. The calling task waits meanwhile.
---@async
---@return string
function mp.dump() end
--- Numbers of the program in the text format of Prometheus: processes, tasks, memory, objects, queues, locks,
--- pools. No process is asked, so it does not wait.
---@return string
function mp.metrics() end

---@class mpengine.Logger
local Logger = {}
--- Makes a record of this level.
---@param level string|integer
function Logger:log(level, text, ...) end
--- Makes a record of level 10.
function Logger:debug(text, ...) end
--- Makes a record of level 20.
function Logger:info(text, ...) end
--- Makes a record of level 30.
function Logger:warning(text, ...) end
--- Makes a record of level 40.
function Logger:error(text, ...) end
--- Makes a record of level 50.
function Logger:critical(text, ...) end
--- Drops records below this level.
---@param level? string|integer nil: that of the logger above
function Logger:set_level(level) end
--- The level below which records are dropped.
---@return integer level its own, or that of the nearest logger above it that has one, or 30
function Logger:get_level() end
--- false: the handlers of the loggers above get no records of this one and of those below it, here and from processes that are
--- started later.
---@param on boolean
function Logger:set_propagate(on) end
--- Do the handlers of the loggers above get its records?
---@return boolean on
function Logger:get_propagate() end
--- Adds a place where the records of this logger, and of those below it, go: those of this process, and of the processes that are
--- started later. Raises for a wrong option, and when the file or the journal cannot be opened. A handler itself raises nothing.
---@param options mpengine.HandlerOptions
---@return mpengine.Handler
function Logger:add_handler(options) end

---@class mpengine.Record
---@field time number seconds since 1970
---@field level integer 10 debug, 20 info, 30 warning, 40 error, 50 critical
---@field level_name string
---@field name string of the logger
---@field message string
---@field process string
---@field pid integer

---@class mpengine.HandlerOptions
---@field to? "stderr"|"syslog"|"journald"|fun(record: mpengine.Record, line: string)
---@field file? string a path; instead of `to`. Blocks while it is written
---@field max_bytes? integer the file is renamed before it grows beyond that, and a new one begun
---@field keep? integer renamed files that stay, default 5
---@field ident? string the name of the program for syslog and the journal, default "mpengine"
---@field format? "text"|"json"|fun(record: mpengine.Record): string
---@field level? string|integer the lowest that it takes

---@class mpengine.Handler
local Handler = {}
--- Takes it from its logger, and closes its file. A second call does nothing.
function Handler:close() end

---The logger of a dotted name, the same one at each call; "" when absent, which is above all. Can be sent. Its messages go to its handlers and
---those above it, to standard error after log_to_stderr, and to the log of a C host that has one: all of them, until a level is set.
---@param name? string
---@return mpengine.Logger
function mp.get_logger(name) end
--- Writes the library's own records to standard error: its logger.
---@param level? string|integer
---@return mpengine.Logger
function mp.log_to_stderr(level) end

---@class mpengine.codec
local codec = {}
--- Any values as bytes. Raises for what cannot be sent, and names the path.
---@return string
function codec.encode(...) end
--- The values that encode has made bytes of.
--- Raises for damaged bytes; accepts functions, and loads modules, only when asked.
---@param bytes string
---@param opts? { functions: boolean }
---@return any ...
function codec.decode(bytes, opts) end

-- ---- servers ---------------------------------------------------------------------------------

--- Servers of streams.
---@class mpengine.server
local server = {}

---@class mpengine.server.Settings
---@field handler fun(socket: mpengine.Socket, peer: string) a task of its own for each connection; its end closes it
---@field host? string "127.0.0.1" when absent
---@field port? integer 0: one that is free
---@field workers? integer processes that share the listener; 0: the calling process serves
---@field backlog? integer 1024 when absent
---@field max_connections? integer open at once, in one process
---@field name? string of the workers, in reports
---@field tls? { cert: string, key: string, password: string?, timeout: number? }|userdata names of PEM files or their text, seconds for the handshake (10); or a context of LuaSec

---@class mpengine.StreamServer
---@field port integer after start
local StreamServer = {}

--- A server, not yet started. Raises for wrong settings, and when the address cannot be bound.
---@param settings mpengine.server.Settings
---@return mpengine.StreamServer
function server.StreamServer(settings) end
--- Listens, and serves from now on. Raises when the address cannot be had.
---@return mpengine.StreamServer self
function StreamServer:start() end
--- Serves until it is stopped, by stop or by SIGTERM. Tells the service manager (NOTIFY_SOCKET) when it listens,
--- that it stops on SIGTERM, and by signs of life (WATCHDOG_USEC) that its tasks run.
---@async
function StreamServer:serve_forever() end
--- Stops accepting, lets handlers end for so many seconds (10), then cancels them.
---@async
---@param seconds? number
---@return true
function StreamServer:stop(seconds) end
--- Counts since its start, and its workers.
---@return { accepted: integer, open: integer, failed: integer, workers: table[]? }
function StreamServer:stats() end

--- A connection, with the methods and results of LuaSocket's; waits suspend only the task.
---@class mpengine.Socket
local Socket = {}
--- Waits for a connection.
---@async
---@return mpengine.Socket?
---@return string? reason
function Socket:accept() end
--- Waits for a line, so many bytes, or all until the other side closes.
---@async
---@param pattern? "*l"|"*a"|integer
---@param prefix? string
---@return string? data
---@return string? reason "closed", "timeout" or the system's
---@return string? partial
function Socket:receive(pattern, prefix) end
--- Waits until all is sent.
---@async
---@param data string
---@param first? integer
---@param last? integer
---@return integer? last index of the last byte sent
---@return string? reason
---@return integer? sent
function Socket:send(data, first, last) end
--- Closes it, and wakes tasks that use it.
function Socket:close() end
--- How long calls wait at most. nil or negative: without limit; 0: they never wait.
---@param seconds? number
---@param mode? "b"|"t"
function Socket:settimeout(seconds, mode) end
--- The limits of settimeout.
---@return number block negative: no limit
---@return number total
function Socket:gettimeout() end
--- The number of its descriptor.
---@return integer fd -1: closed
function Socket:getfd() end
--- Gives up its descriptor without closing it, and has this one, or none (-1).
---@param fd integer
function Socket:setfd(fd) end
--- The address of the other side.
---@return string? address
---@return integer|string port
---@return "inet"|"inet6" family
function Socket:getpeername() end
--- Its own address.
---@return string? address
---@return integer|string port
---@return "inet"|"inet6" family
function Socket:getsockname() end
--- Ends one direction, or both.
---@param way? "both"|"send"|"receive"
function Socket:shutdown(way) end
--- Sets an option of the system's.
---@param name "tcp-nodelay"|"keepalive"|"reuseaddr"
---@param on? boolean
function Socket:setoption(name, on) end
--- Reads an option of the system's.
---@param name "tcp-nodelay"|"keepalive"|"reuseaddr"
---@return boolean?
function Socket:getoption(name) end
--- Can receive return something without asking the system?
---@return boolean dirty there is input that was received and not taken
function Socket:dirty() end
--- How many bytes have passed.
---@return integer received
---@return integer sent
function Socket:getstats() end

-- ---- tasks -----------------------------------------------------------------------------------

--- Tasks of this process, and what they wait for each other with; the objects hold any Lua value by reference.
---@class mpengine.co
local co = {}

---@class mpengine.Task
---@field value any first result, nil until it has returned
---@field error any what it raised
---@field name string
local Task = {}

--- Starts a task that calls f(...). Runs when the caller waits, not before.
---@return mpengine.Task
function co.spawn(f, ...) end
--- A task that begins after so many seconds. Killed before, it never runs.
---@param seconds number
---@return mpengine.Task
function co.spawn_later(seconds, f, ...) end
--- A task that calls f(...) at each multiple of `seconds` after now, without drift, until it is killed. A turn that
--- comes while f still runs is skipped. An error of f is printed, and the next turn comes.
---@param seconds number more than 0
---@param f function
---@return mpengine.Task
function co.every(seconds, f, ...) end
--- Waits until a descriptor of the caller's can be read or written to, for C libraries. An end of file, an error and a
--- descriptor that is not open count as ready.
---@async
---@param fd integer
---@param mode "r"|"w"|"rw"
---@param timeout? number seconds
---@return "r"|"w"|"rw"|nil ready what became ready
---@return "timeout"? reason
function co.wait_fd(fd, mode, timeout) end
--- Waits for its end. An error of the task is not raised.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function Task:join(timeout) end
--- Waits for its results; raises its error.
---@async
---@param timeout? number seconds
---@return any ... all its results; or nil and "timeout" or "killed"
function Task:get(timeout) end
--- Ends it.
--- Raises an error of kind "killed" at its wait, and at later ones. Does not wait. A pcall may catch it, 100 times
--- and for half a second of processor time at most.
---@param reason? any
function Task:kill(reason) end
--- Has it ended?
---@return boolean
function Task:ready() end
--- Has it returned, and not raised?
---@return boolean
function Task:successful() end
--- Calls f(task), as a task, when it has ended.
---@param f fun(task: mpengine.Task)
function Task:link(f) end

--- Waits until all have ended, or `count` of them; with `raise_error` raises the first error.
---@async
---@param tasks mpengine.Task[]
---@param timeout? number seconds
---@param opts? { count: integer?, raise_error: boolean? }
---@return mpengine.Task[] ended
function co.joinall(tasks, timeout, opts) end
--- Waits until some objects are ready. Takes what mp.wait takes. Without arguments: waits for all tasks.
---@async
---@param objects? table
---@param timeout? number seconds
---@param count? integer
---@return table|true|nil ready
---@return "timeout"?
function co.wait(objects, timeout, count) end
--- For a loop over objects as they become ready.
---@param objects table
---@param timeout? number seconds
---@return fun(): any each as it becomes ready; a step may wait
function co.iwait(objects, timeout) end
--- Kills tasks; does not wait.
---@param tasks mpengine.Task[]
function co.killall(tasks) end
--- Waits; other tasks run meanwhile.
---@async
---@param seconds number 0: lets the others run
function co.sleep(seconds) end
--- The task that calls.
---@return mpengine.Task
function co.current() end
--- f's results; nil, "timeout" when f was cancelled.
---@async
---@param seconds number
---@return any ...
function co.with_timeout(seconds, f, ...) end

---@class mpengine.Scope
local Scope = {}
--- A task that the scope waits for, and cancels when it ends by an error.
---@return mpengine.Task
function Scope:spawn(f, ...) end
--- Cancels all its tasks.
---@param reason? any
function Scope:cancel(reason) end

--- Returns when all that f spawned have ended; an error cancels the others and is raised.
---@async
---@param f fun(s: mpengine.Scope): any
---@return any ...
function co.scope(f) end
--- Runs f on a thread with a Lua state of its own. f is copied as to another process; its error is raised here.
---@async
---@return any ...
function co.offload(f, ...) end

--- Reports tasks that run so long without waiting; nil: no more.
---@param seconds? number
function co.watchdog(seconds) end

--- An event for tasks of this process, as all objects of co are.
---@class mpengine.co.Event : mpengine.Event
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.Event
function co.Event(opts) end

--- A lock for tasks of this process.
---@class mpengine.co.Lock : mpengine.Lock
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.Lock
function co.Lock(opts) end

--- A lock that its owner may acquire several times, for tasks of this process.
---@class mpengine.co.RLock : mpengine.RLock
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.RLock
function co.RLock(opts) end

--- A semaphore for tasks of this process.
---@class mpengine.co.Semaphore : mpengine.Semaphore
---@param value? integer | { value?: integer, name?: string } default 1
---@return mpengine.co.Semaphore
function co.Semaphore(value) end
--- A semaphore for tasks of this process. Releasing beyond that value raises.
---@param value? integer | { value?: integer, name?: string } default 1
---@return mpengine.co.Semaphore
function co.BoundedSemaphore(value) end

--- A condition for tasks of this process.
---@class mpengine.co.Condition : mpengine.Condition
---@param lock? mpengine.co.Lock | { lock?: mpengine.co.Lock, name?: string } default: an RLock of its own
---@return mpengine.co.Condition
function co.Condition(lock) end

--- Holds any Lua value, by reference.
---@class mpengine.co.Queue
local CoQueue = {}
--- A queue of any Lua values, by reference, for tasks of this process.
---@param maxsize? integer | { maxsize?: integer, name?: string } 0: no bound
---@return mpengine.co.Queue
function co.Queue(maxsize) end
--- A queue without a bound.
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.Queue
function co.SimpleQueue(opts) end
--- Adds an item at the end. Waits while it is full.
---@async
---@param v any
---@param timeout? number seconds
---@return true? put
---@return "full"|"closed"|nil reason
function CoQueue:put(v, timeout) end
--- Takes the first item. Waits while it is empty.
---@async
---@param timeout? number seconds
---@return any item
---@return "empty"|"closed"|nil reason closed: and drained
function CoQueue:get(timeout) end
--- put with a timeout of 0: never waits.
---@return true?, "full"|"closed"|nil
function CoQueue:put_nowait(v) end
--- get with a timeout of 0: never waits.
---@return any, "empty"|"closed"|nil
function CoQueue:get_nowait() end
--- The number of items now.
---@return integer
function CoQueue:qsize() end
--- Are there no items now?
---@return boolean
function CoQueue:empty() end
--- Has it as many items as it may have?
---@return boolean
function CoQueue:full() end
--- Closes it: later puts fail, gets go on until it is drained.
function CoQueue:close() end
--- Was it closed? It may have items still.
---@return boolean
function CoQueue:is_closed() end
--- `for v in q:iter() do`: until it is closed and drained. Each step may wait.
---@return fun(): any
function CoQueue:iter() end

---@class mpengine.co.JoinableQueue : mpengine.co.Queue
local CoJoinableQueue = {}
--- A queue that counts what was put and is not done yet.
---@param maxsize? integer | { maxsize?: integer, name?: string } 0: no bound
---@return mpengine.co.JoinableQueue
function co.JoinableQueue(maxsize) end
--- An item that was got is done. Raises when called more often than there were items.
function CoJoinableQueue:task_done() end
--- Waits until all items are done.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"? reason
function CoJoinableQueue:join(timeout) end

--- A table whose fields each task sees its own of.
---@return table
function co.Local() end

---@class mpengine.co.AsyncResult
---@field value any
---@field error any
local CoResult = {}
--- A result that is not there yet: set or set_error gives it.
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.AsyncResult
function co.AsyncResult(opts) end
--- Sets the result. Raises when it was set.
function CoResult:set(...) end
--- Ends the waits: get raises err.
function CoResult:set_error(err) end
--- Waits for the result, or raises its error.
---@async
---@param timeout? number seconds
---@return any ...
function CoResult:get(timeout) end
--- Waits until it is there; raises no error.
---@async
---@param timeout? number seconds
---@return true?
---@return "timeout"?
function CoResult:wait(timeout) end
--- Is it there?
---@return boolean
function CoResult:ready() end
--- Is it there, and no error?
---@return boolean
function CoResult:successful() end

---@class mpengine.co.Group
---@operator len: integer
local Group = {}
--- A set of tasks, which leave it when they end.
---@param opts? { name?: string } a name, which tostring and dumps show
---@return mpengine.co.Group
function co.Group(opts) end
--- Starts a task in it; in a Pool waits for room.
---@async
---@return mpengine.Task
function Group:spawn(f, ...) end
--- Takes a task into the group.
---@param task mpengine.Task
function Group:add(task) end
--- Waits until no task is left in it.
---@async
---@param timeout? number seconds
---@param raise_error? boolean
---@return true?
---@return "timeout"?
function Group:join(timeout, raise_error) end
--- Kills all tasks in it.
---@param reason? any
function Group:kill(reason) end

--- The maps of mpengine.Pool, in tasks.
---@class mpengine.co.Pool : mpengine.co.Group
local CoPool = {}
--- A pool of tasks of this process, so many at once.
---@param size? integer | { size?: integer, name?: string } tasks at once; absent: any number
---@return mpengine.co.Pool
function co.Pool(size) end
--- Waits for a free place, then for the results of f.
---@async
---@return any ...
function CoPool:apply(f, args) end
--- As apply, and returns at once.
---@return mpengine.co.AsyncResult
function CoPool:apply_async(f, args, opts) end
--- Waits for the list of results, in order; raises the first error.
---@async
---@return table
function CoPool:map(f, source, opts) end
--- As map, and returns at once: get gives the list.
---@return mpengine.co.AsyncResult
function CoPool:map_async(f, source, opts) end
--- As map; items are lists of arguments.
---@async
---@return table
function CoPool:starmap(f, source, opts) end
--- As starmap, and returns at once: get gives the list.
---@return mpengine.co.AsyncResult
function CoPool:starmap_async(f, source, opts) end
--- `for i, v in pool:imap(f, source) do`: in order, as they come.
---@return fun(): integer?, any, any
function CoPool:imap(f, source, ...) end
--- As imap, each as soon as it is there; i is the index of its item.
---@return fun(): integer?, any, any
function CoPool:imap_unordered(f, source, ...) end

-- ---- input and output ------------------------------------------------------------------------

---@class mpengine.http
local http = {}

---@class mpengine.http.Response
---@field status integer
---@field headers table<string, string> by name in any case
---@field set_cookie string[] the values of Set-Cookie, each by itself
---@field body string "" when a sink took it
---@field url string where the redirects led
---@field elapsed number seconds

---@class mpengine.http.Options
---@field headers? table<string, string|number|string[]|false>
---@field body? string|fun(): string? a function gives pieces and then nil
---@field timeout? number seconds for the whole request
---@field connect_timeout? number seconds until there is a connection
---@field idle_timeout? number seconds until an unused connection is closed, 60
---@field redirects? integer how many are followed, 30
---@field verify? boolean|string a file: signed by one of those in it
---@field proxy? string
---@field auth? string "user:password"
---@field sink? fun(piece: string)

---@class mpengine.http.Request : mpengine.http.Options
---@field url string
---@field method? string default GET

--- Waits for the answer to a GET request.
---@async
---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message "timeout" for a timeout
function http.get(url, opts) end
--- Waits for the answer to a POST request.
---@async
---@param url string
---@param body? string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message
function http.post(url, body, opts) end
--- Waits for the answer to a PUT request.
---@async
---@param url string
---@param body? string|fun(): string?
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message
function http.put(url, body, opts) end
--- Waits for the answer to a PATCH request.
---@async
---@param url string
---@param body? string|fun(): string?
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message
function http.patch(url, body, opts) end
--- Waits for the answer to a DELETE request.
---@async
---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message
function http.delete(url, opts) end
--- Waits for the headers that a GET request would have.
---@async
---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response?
---@return string? message
function http.head(url, opts) end
--- Waits for the answer to any request.
---@async
---@param request mpengine.http.Request
---@return mpengine.http.Response?
---@return string? message
function http.request(request) end

---@class mpengine.http.ServeSettings : mpengine.server.Settings
---@field handler fun(req: mpengine.http.ServerRequest): integer, table?, any status, headers, and a body: a string, an iterator of strings, or an open file
---@field port? integer 8080 when absent; 0: one that is free
---@field max_body? integer bytes; a larger body is refused with 413. 16 MiB when absent, without a limit when it streams
---@field timeout? number seconds to receive a request, and of an idle connection; 60 when absent
---@field stream? boolean the handler runs when the header is there, and reads the body itself
---@field tls? { cert: string, key: string } files in PEM form, or their text

---@class mpengine.http.ServerRequest
---@field method string
---@field path string decoded
---@field target string as it was sent
---@field query table<string, string|string[]> decoded; several of one name are a list
---@field headers table<string, string|string[]> by name in any case; a header of several lines is a list
---@field body string? nil when it streams
---@field peer string "ip:port"
local ServerRequest = {}

--- The next n bytes of a body that streams, fewer only at its end; without n what has arrived.
---@async
---@param n? integer
---@return string? bytes nil at the end
---@return string? reason why the rest is missing: "closed", "the body is too large"
function ServerRequest:read(n) end
--- Hands the connection over: runs f(ws) in this task, whose end closes the WebSocket. Its results are
--- what the handler returns: 426 or 400 when the request asks for no WebSocket, else nothing.
---@async
---@param f fun(ws: mpengine.http.WebSocket)
---@return integer? status
---@return table? headers
---@return string? body
function ServerRequest:websocket(f) end
--- The answer that is a file, or the part of it that the request asks for; 404 when there is none.
---@param path string
---@param headers? table<string, string>
---@return integer status
---@return table headers
---@return any body
function ServerRequest:file(path, headers) end

---@class mpengine.http.WebSocket
local WebSocket = {}

--- The next message. Pings are answered, and closes, while a task waits here.
---@async
---@param timeout? number
---@return string? message nil when there is none
---@return "text"|"binary"|"timeout"|"closed" kind
---@return integer? code of the close; 1006 when there was none
function WebSocket:recv(timeout) end
--- Sends a message, and waits until the system has it. A text must be UTF-8.
---@async
---@param s string
---@param kind? "text"|"binary" "text" when absent
---@return true? sent
---@return "closed"? reason
---@return integer? code
function WebSocket:send(s, kind) end
--- Sends a close frame. The peer's own ends the next recv.
---@async
---@param code? integer 1000 when absent
---@param reason? string
---@return true? sent
---@return "closed"? why
function WebSocket:close(code, reason) end

--- A server of HTTP that was not started: see docs/servers.md.
---@param settings mpengine.http.ServeSettings
---@return mpengine.StreamServer
function http.serve(settings) end

--- Keeps connections, cookies and options. The calls are those of http, as methods.
---@class mpengine.http.Session
local Session = {}
--- Requests that share connections and cookies; the options are defaults of each.
---@param opts? mpengine.http.Options
---@return mpengine.http.Session
function http.Session(opts) end
--- As http.get.
---@async
---@return mpengine.http.Response?, string?
function Session:get(url, opts) end
--- As http.post.
---@async
---@return mpengine.http.Response?, string?
function Session:post(url, body, opts) end
--- As http.put.
---@async
---@return mpengine.http.Response?, string?
function Session:put(url, body, opts) end
--- As http.patch.
---@async
---@return mpengine.http.Response?, string?
function Session:patch(url, body, opts) end
--- As http.delete.
---@async
---@return mpengine.http.Response?, string?
function Session:delete(url, opts) end
--- As http.head.
---@async
---@return mpengine.http.Response?, string?
function Session:head(url, opts) end
--- As http.request.
---@async
---@return mpengine.http.Response?, string?
function Session:request(request) end
--- Drops the cookies and closes the connections, those in use when their requests have ended.
function Session:close() end

-- ---- other programs --------------------------------------------------------------------------

--- A pipe end to another program. mp.wait takes it: it is ready when there is a message, or the end.
---@class mpengine.Connection
local Connection = {}

--- Sends a value. One call is one unit among tasks. Raises for functions, shared objects and what belongs to a module,
--- with the path to it, and when this end is closed.
---@async
---@param value any
---@return true? sent
---@return "closed"? reason the other program has closed its end, or has ended
function Connection:send(value) end
--- Sends a string.
---@async
---@param bytes string
---@return true? sent
---@return "closed"? reason
function Connection:send_bytes(bytes) end
--- Waits for a message. Functions and shared objects are not taken. Raises when this end is closed.
---@async
---@param timeout? number seconds; what has come of a message until then is kept
---@return any value
---@return string? reason "timeout", "closed", or "cannot decode: ..."
function Connection:recv(timeout) end
--- The same for strings; raises when another value was sent.
---@async
---@param timeout? number seconds
---@return string? bytes
---@return string? reason
function Connection:recv_bytes(timeout) end
--- Whether there is a message, or the end.
---@async
---@param timeout? number seconds; does not wait without one
---@return boolean
function Connection:poll(timeout) end
--- Closes this end. Harmless when it is closed.
function Connection:close() end

---@class mpengine.Listener
---@field address string with the port that was chosen for port 0
local Listener = {}

--- Listens for other programs. Raises when the address cannot be had, and without OpenSSL's libcrypto.
---@param address string "host:port" or a path
---@param opts { authkey: string }
---@return mpengine.Listener
function mp.Listener(address, opts) end
--- Waits for a client that proves that it has the key. Others are dropped: after a wrong answer at once, without one after
--- ten seconds.
---@async
---@param timeout? number seconds
---@return mpengine.Connection? connection
---@return string? reason "timeout", "closed", or what the system says
function Listener:accept(timeout) end
--- Stops to listen; a path is removed. Harmless when it is closed.
function Listener:close() end

--- Connects to a listener, and makes sure that it has the key. Raises without OpenSSL's libcrypto.
---@async
---@param address string "host:port" or a path
---@param opts { authkey: string, timeout: number? } seconds, for all of it
---@return mpengine.Connection? connection
---@return string? reason "authentication failed", "timeout", "closed", or what the system says
function mp.Client(address, opts) end

---@class mpengine.monkey
local monkey = {}
--- LuaSocket, os.execute, io.popen and io.read suspend only the task afterwards. A part is left out by false.
---@param parts? { socket: boolean?, os: boolean?, io: boolean? }
function monkey.patch_all(parts) end

--- The function of that name as it was before patch_all; one that patch_all does not replace as it is. An
--- unknown name raises.
---@param name string "socket.select", "os.execute"; methods as "file:read", "tcp:receive"
---@return function
function monkey.original(name) end

---@class mpengine.subprocess
local subprocess = {}

---@class mpengine.subprocess.Command
---@field [integer] string the words of the command; no shell
---@field stdin? string
---@field timeout? number seconds; then it is killed
---@field detach? boolean it outlives the task and the process that wait for it
---@field cwd? string
---@field env? table<string, string> instead of this process's

--- Runs a program until it ends. Raises for a mistake in the command; what the program does comes back.
---@async
---@param command mpengine.subprocess.Command
---@return { status: integer, stdout: string, stderr: string }? result status -n: ended by signal n
---@return string? message "timeout", or why it cannot be started
---@return { stdout: string, stderr: string }? printed until the timeout
function subprocess.run(command) end

--- This side's end of a pipe to or from a program.
---@class mpengine.subprocess.Pipe
local Pipe = {}

--- Reads a number of bytes (fewer at the end), "l" a line, "L" a line with its end, "n" a number, or "a" all. One call is
--- one unit among tasks. Raises when the program reads this pipe, or this end is closed.
---@async
---@param format? integer|"l"|"L"|"n"|"a" default "l"
---@param timeout? number seconds; what was read until then is kept for the next read
---@return string|number|nil value nil at the end of file
---@return string? reason "timeout", "closed" by another task, or what the system says
function Pipe:read(format, timeout) end
--- Writes all of it. One call is one unit among tasks. Raises when the program writes this pipe, or this end is closed.
---@async
---@param bytes string
---@return true? written
---@return string? reason "closed": the program has ended or reads no more; or what the system says
function Pipe:write(bytes) end
--- Each line until the end of file, for a generic for.
---@param format? integer|"l"|"L"|"n" default "l"
---@return fun(): string|number|nil
function Pipe:lines(format) end
--- Closes this end. A task that waits for it gets nil, "closed".
function Pipe:close() end

---@alias mpengine.subprocess.Stream "inherit"|"pipe"|"null"|file*|mpengine.subprocess.Pipe|userdata

---@class mpengine.subprocess.PopenCommand
---@field [integer] string the words of the command; no shell
---@field stdin? mpengine.subprocess.Stream default "inherit". A file, socket or pipe is made to block; close it here
---@field stdout? mpengine.subprocess.Stream
---@field stderr? mpengine.subprocess.Stream|"stdout" "stdout" joins them
---@field detach? boolean it outlives its variable and the process that started it
---@field cwd? string
---@field env? table<string, string> instead of this process's

--- A program that runs beside this one. A <close> variable of it ends the program with its scope.
---@class mpengine.subprocess.Popen
---@field pid integer
---@field program string its name, as it was given
---@field starter integer the pid of the process that has started it, and alone may wait for it or kill it
---@field status integer? nil while it runs; -n: ended by signal n
---@field stdin mpengine.subprocess.Pipe? those that are pipes
---@field stdout mpengine.subprocess.Pipe?
---@field stderr mpengine.subprocess.Pipe?
local Popen = {}

--- Starts a program. Raises for a mistake in the command.
---@param command mpengine.subprocess.PopenCommand
---@return mpengine.subprocess.Popen? program
---@return string? message why it cannot be started
function subprocess.Popen(command) end
--- Pipe:write on its standard input.
---@async
---@param bytes string
---@return true? written
---@return string? reason
function Popen:write(bytes) end
--- The program reads the end of file. Harmless when it is closed.
function Popen:close_stdin() end
--- Pipe:read on its standard output.
---@async
---@param format? integer|"l"|"L"|"n"|"a"
---@param timeout? number seconds
---@return string|number|nil value
---@return string? reason
function Popen:read(format, timeout) end
--- Pipe:read on its standard error.
---@async
---@param format? integer|"l"|"L"|"n"|"a"
---@param timeout? number seconds
---@return string|number|nil value
---@return string? reason
function Popen:read_err(format, timeout) end
--- Pipe:lines on its standard output.
---@param format? integer|"l"|"L"|"n"
---@return fun(): string|number|nil
function Popen:lines(format) end
--- Waits for its exit. Raises in a process that has not started it.
---@async
---@param timeout? number seconds
---@return integer? status
---@return "timeout"? reason
function Popen:wait(timeout) end
--- Sends a signal. Raises in a process that has not started it.
---@param signal? string|integer default "KILL"
---@return boolean? sent false: it has ended
---@return string? message
function Popen:kill(signal) end

return mp
