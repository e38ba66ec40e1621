/**
 * node:http, without what importing it drags in: an import reads every export of the module, one of which (WebSocket)
 * loads Node's whole fetch implementation. That is 6 MB for each thread.
 */
export const http = process.getBuiltinModule('node:http');
